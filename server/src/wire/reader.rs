//! Protobuf's wire format, read where it lies: no copy, no allocation. `None` everywhere means that the bytes are not what encoders
//! usually write; whoever gets it asks prost, which knows every form and says what is wrong.

/// The key of a field that holds a number.
pub(crate) const fn number(field: u64) -> u64 {
    field << 3
}

/// The key of a field that holds bytes: text, or a message.
pub(crate) const fn bytes(field: u64) -> u64 {
    field << 3 | 2
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key, or a number without sign.
    #[inline]
    pub(crate) fn number(&mut self) -> Option<u64> {
        let first = *self.0.split_off_first()?;
        if first < 0x80 { Some(first.into()) } else { self.long_number(first) }
    }

    fn long_number(&mut self, first: u8) -> Option<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = *self.0.split_off_first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Of the tenth byte, one bit is left.
                return (shift < 63 || byte <= 1).then_some(value);
            }
        }
        None
    }

    /// The next so many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        self.0.split_off(..length)
    }

    /// Bytes behind their length.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Text behind its length.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The same, where it may well be the same text once more: compared with what has been looked through, it need not be again.
    #[inline]
    pub(crate) fn text_like(&mut self, known: &'a str) -> Option<&'a str> {
        let bytes = self.bytes()?;
        if bytes == known.as_bytes() { Some(known) } else { std::str::from_utf8(bytes).ok() }
    }

    /// A message behind its length, by prost.
    pub(crate) fn message<M: prost::Message + Default>(&mut self) -> Option<M> {
        M::decode(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: numbers are read up to the largest, and nothing beyond it.
    #[test]
    fn numbers() {
        for value in [0, 1, 0x7f, 0x80, 300, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut encoded = Vec::new();
            prost::encoding::encode_varint(value, &mut encoded);
            let mut reader = Reader::new(&encoded);
            assert_eq!(reader.number(), Some(value));
            assert!(reader.is_empty());
            assert_eq!(Reader::new(&encoded[..encoded.len() - 1]).number(), None, "{value} cut short");
        }
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&too_large).number(), None);
        assert_eq!(Reader::new(&[0xff; 20]).number(), None);
    }

    /// Goal: nothing is read past the end, however long it says that it is.
    #[test]
    fn lengths() {
        assert_eq!(Reader::new(&[2, b'a', b'b', b'c']).text(), Some("ab"));
        assert_eq!(Reader::new(&[4, b'a', b'b', b'c']).bytes(), None);
        assert_eq!(Reader::new(&[1, 0xff]).text(), None, "no UTF-8");
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&huge).bytes(), None);
    }
}
