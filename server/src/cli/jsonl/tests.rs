//! Lines that are records, lines that are not, and that what is written reads back.

use bytes::Bytes;
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

use super::{Line, Lines, Place, Record};

fn record(key: &'static str, values: &[&'static str]) -> Record {
    Record { bucket: None, key: key.into(), values: values.iter().map(|value| Bytes::from(*value)).collect() }
}

#[test]
fn a_line_is_text_base64_or_several_values() {
    assert_eq!(Record::parse(br#"{"key":"ann","value":"x\n\u0000"}"#), Ok(record("ann", &["x\n\0"])));
    assert_eq!(Record::parse(br#"{"key_base64":"YW5u","value_base64":"eA=="}"#), Ok(record("ann", &["x"])));
    assert_eq!(Record::parse(br#"{"key":"ann","values":["x","y"]}"#), Ok(record("ann", &["x", "y"])));
    assert_eq!(Record::parse(br#"{"values_base64":["eA==","eQ=="],"key":"ann"}"#), Ok(record("ann", &["x", "y"])));
    let carts = Record { bucket: Some("carts".into()), ..record("ann", &[""]) };
    assert_eq!(Record::parse(br#" {"bucket":"carts","key":"ann","value":""} "#), Ok(carts));
}

#[test]
fn a_bad_line_says_what_is_wrong() {
    let cases: [(&[u8], &str); 12] = [
        (b"nonsense", "not a record"),
        (b"{\"key\":\"a\",\"value\":\"\xff\"}", "not a record"),
        (br#"{"key":"a","value":"b"} trailing"#, "not a record"),
        (br#"{"key":"a","value":1}"#, "not a record"),
        (br#"{"key":"a","value":"b","vaule":"c"}"#, "unknown field `vaule`"),
        (br#"{"value":"b"}"#, "no key"),
        (br#"{"key":"a"}"#, "no value"),
        (br#"{"key":"","value":"b"}"#, "0 bytes"),
        (br#"{"key":"a","key_base64":"YQ==","value":"b"}"#, "two keys"),
        (br#"{"key":"a","value":"b","values":["c"]}"#, "more than one"),
        (br#"{"key":"a","values":[]}"#, "empty"),
        (br#"{"key":"a","value_base64":"*"}"#, "not base64"),
    ];
    for (line, reason) in cases {
        let error = Record::parse(line).expect_err(&String::from_utf8_lossy(line));
        assert!(error.contains(reason), "{error} should contain {reason}");
    }
    assert!(Record::parse(format!(r#"{{"key":"{}","value":""}}"#, "k".repeat(1025)).as_bytes()).is_err());
    assert!(Record::parse(br#"{"bucket":"a/b","key":"a","value":"b"}"#).is_err());
}

#[test]
fn lines_are_counted_and_know_where_they_end() {
    let input = b"{\"key\":\"a\",\"value\":\"1\"}\r\n\n  \nbad\n{\"key\":\"b\",\"value\":\"2\"}";
    let mut lines = Lines::new(input.as_slice(), Place::default());
    let mut seen = Vec::new();
    while let Some(line) = lines.advance().unwrap() {
        seen.push(line);
    }
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[0], (Place { line: 1, end_offset: 25 }, Line::Record(record("a", &["1"]))));
    assert_eq!(seen[1].1, Line::Blank);
    assert_eq!(seen[2].1, Line::Blank);
    assert!(matches!(&seen[3], (Place { line: 4, .. }, Line::Bad(_))));
    assert_eq!(seen[4], (Place { line: 5, end_offset: input.len() as u64 }, Line::Record(record("b", &["2"]))));
}

#[test]
fn a_line_above_the_limit_is_refused_and_the_next_one_read() {
    let input = format!("{{\"key\":\"a\",\"value\":\"{}\"}}\n{{\"key\":\"b\",\"value\":\"2\"}}\n", "x".repeat(500));
    let reader = std::io::BufReader::with_capacity(16, input.as_bytes());
    let mut lines = Lines { line_bytes_max: 100, ..Lines::new(reader, Place::default()) };
    assert!(matches!(lines.advance().unwrap(), Some((Place { line: 1, .. }, Line::Bad(_)))));
    assert!(lines.buffer.len() < 200);
    assert_eq!(lines.advance().unwrap().unwrap().1, Line::Record(record("b", &["2"])));
    assert_eq!(lines.advance().unwrap(), None);
}

proptest! {
    #[test]
    fn what_is_written_reads_back_byte_for_byte(
        bucket in proptest::option::of("[A-Za-z0-9._-]{1,64}"),
        key in vec(any::<u8>(), 1..100),
        values in vec(vec(any::<u8>(), 0..100), 1..4),
        text in any::<String>(),
    ) {
        let mut values: Vec<Bytes> = values.into_iter().map(Bytes::from).collect();
        for _ in 0..2 {
            let record = Record { bucket: bucket.clone(), key: key.clone().into(), values: values.clone() };
            let mut line = Vec::new();
            record.write(&mut line).unwrap();
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let mut lines = Lines::new(line.as_slice(), Place::default());
            prop_assert_eq!(lines.advance().unwrap().unwrap().1, Line::Record(record));
            values = vec![text.clone().into()];
        }
    }
}
