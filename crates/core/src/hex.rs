//! Bytes as hexadecimal digits.

/// Two lowercase digits a byte.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// So many bytes, and nothing else; digits of either case.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| value.try_into().ok());
    let digits: Option<Vec<u8>> = text.as_bytes().iter().map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * N)?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let all: [u8; 256] = std::array::from_fn(|n| n.try_into().unwrap());
        let text = encode(all);
        assert!(text.starts_with("000102") && text.ends_with("fdfeff"), "{text}");
        assert_eq!(decode(&text), Some(all));
        assert_eq!(decode("AbcD"), Some([0xab, 0xcd]));
        for wrong in ["", "ab", "abc", "abcdef", "abcg", "+bcd", "ab d", "äb"] {
            assert_eq!(decode::<2>(wrong), None, "{wrong:?}");
        }
    }
}
