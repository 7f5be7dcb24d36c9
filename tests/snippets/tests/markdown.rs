//! How code blocks are read from pages.

use quorate_snippets::markdown::blocks;

#[test]
fn a_block_knows_its_place_its_language_and_what_it_prints() {
    let page = "# Title\n\n## Part\n<!-- from a/b.py -->\n```python\nx = 1\nprint(x)  # 1\nprint(x + 1)\n```\n\n```js no-run\nconsole.log(2)  // 2\n```\n";
    let found = blocks("page.md", page);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name().as_str(), found[0].section.as_str()), ("page.md:5", "Part"));
    assert_eq!((found[0].language.as_str(), found[0].source.as_deref()), ("python", Some("a/b.py")));
    assert_eq!(found[0].code, "x = 1\nprint(x)  # 1\nprint(x + 1)\n");
    assert_eq!(found[0].promised(), ["1"]);
    assert!(!found[0].is_only_compiled && found[1].is_only_compiled);
    assert_eq!((found[1].source.as_deref(), found[1].promised()), (None, vec!["2"]));
}

#[test]
fn a_heading_inside_code_is_no_heading_and_other_languages_promise_nothing() {
    let found = blocks(
        "page.md",
        "## One\n```console\n# not a heading\n$ print(1)  # 1\n```\n```rust\nprintln!(\"{}\", 1);  // 1\n```\n",
    );
    assert!(found.iter().all(|block| block.section == "One"));
    assert!(found[0].promised().is_empty());
    assert_eq!(found[1].promised(), ["1"]);
}

#[test]
#[should_panic(expected = "the fence in line 2 is left open")]
fn an_open_fence_is_a_mistake_of_the_page() {
    blocks("page.md", "text\n```rust\nlet x = 1;\n");
}
