//! Fenced code blocks of a page, with what they say that they print. Not a Markdown parser: fences at the start of a line are all that the pages
//! use.

/// One block of code in a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The page it stands in.
    pub page: String,
    /// The line of its first fence, counted from 1.
    pub line: usize,
    /// The heading above it.
    pub section: String,
    /// The first word after the fence: `python`.
    pub language: String,
    /// Whether it is only compiled: the fence says `no-run` behind the language.
    pub is_only_compiled: bool,
    /// The file that it is a part of, if the line above the fence says `<!-- from PATH -->`.
    pub source: Option<String>,
    /// The code.
    pub code: String,
}

impl Block {
    /// What people call it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// What it says that it prints: the comment behind each line that prints.
    pub fn promised(&self) -> Vec<&str> {
        let (call, comment) = match self.language.as_str() {
            "python" => ("print(", "  # "),
            "js" => ("console.log(", " // "),
            "rust" => ("println!(", " // "),
            _ => return Vec::new(),
        };
        self.code
            .lines()
            .filter(|line| line.contains(call))
            .filter_map(|line| Some(line.rsplit_once(comment)?.1.trim()))
            .collect()
    }
}

/// The blocks of a page in their order.
///
/// # Panics
/// When a fence is left open.
pub fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut section, mut above) = (String::new(), "");
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(words) = line.strip_prefix("```") {
            let mut code = String::new();
            loop {
                let Some((_, line)) = lines.next() else { panic!("{page}: the fence in line {} is left open", at + 1) };
                if line == "```" {
                    break;
                }
                code.push_str(line);
                code.push('\n');
            }
            let (language, rest) = words.split_once(' ').unwrap_or((words, ""));
            let source = above.strip_prefix("<!-- from ").and_then(|rest| rest.strip_suffix(" -->"));
            found.push(Block {
                page: page.to_owned(),
                line: at + 1,
                section: section.clone(),
                language: language.to_owned(),
                is_only_compiled: rest.split(' ').any(|word| word == "no-run"),
                source: source.map(str::to_owned),
                code,
            });
        } else if line.starts_with('#') {
            section = line.trim_start_matches('#').trim().to_owned();
        }
        above = line;
    }
    found
}
