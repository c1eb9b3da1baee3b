//! Bytes as a table of hexadecimal numbers and characters, the one that `get -x` of `zkCli.sh`
//! prints (Netty's `ByteBufUtil.prettyHexDump`).

use std::fmt::Write;

const COLUMNS: usize = 16;
const RULE: &str = "+--------+-------------------------------------------------+----------------+";

/// The table for `data`, without a newline at its end; empty for no data.
pub fn table(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "         +-------------------------------------------------+\n         \
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n",
    );
    text.push_str(RULE);
    for (number, row) in data.chunks(COLUMNS).enumerate() {
        text.push('\n');
        append_row(&mut text, number * COLUMNS, row);
    }
    text.push('\n');
    text.push_str(RULE);
    text
}

fn append_row(text: &mut String, offset: usize, row: &[u8]) {
    let numbers: String = row.iter().fold(String::new(), |mut numbers, byte| {
        write!(numbers, " {byte:02x}").expect("a String takes every write");
        numbers
    });
    let characters: String = row
        .iter()
        .map(|byte| if matches!(byte, 0x20..=0x7e) { char::from(*byte) } else { '.' })
        .collect();
    write!(text, "|{offset:08x}|{numbers:<48} |{characters:<16}|")
        .expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_nettys() {
        let expected = "\
         +-------------------------------------------------+
         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |
+--------+-------------------------------------------------+----------------+
|00000000| 68 65 6c 6c 6f 20 77 6f 72 6c 64 0a 00 ff 7e 7f |hello world...~.|
|00000010| 21                                              |!               |
+--------+-------------------------------------------------+----------------+";
        let expected = format!("         {expected}");
        assert_eq!(table(b"hello world\n\0\xff~\x7f!"), expected);
        assert_eq!(table(b""), "");
    }
}
