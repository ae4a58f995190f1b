//! The W3C trace context of a caller: `traceparent`, as <https://www.w3.org/TR/trace-context/> has it. Whatever makes no sense is none.

/// Version, trace, span and flags in hexadecimal, with a dash between each two.
const LENGTH: usize = 55;
/// Of the flags: the caller records its part of the trace.
const SAMPLED: u8 = 1;

/// The span of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceParent {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) sampled: bool,
}

impl TraceParent {
    pub(super) fn read(text: &str) -> Option<Self> {
        if text.len() < LENGTH || !text.is_ascii() {
            return None;
        }
        let (known, more) = text.split_at(LENGTH);
        let mut parts = known.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if [version, trace, span, flags].map(str::len) != [2, 32, 16, 2] {
            return None;
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let all_hex = [version, trace, span, flags].iter().all(|part| part.bytes().all(hex));
        // Later versions may go on behind a dash; this one does not.
        let ends_well =
            if version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
        if !all_hex || !ends_well || version == "ff" {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: contexts are read as the standard writes them, and everything else is none.
    #[test]
    fn reads_contexts() {
        let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = TraceParent::read(known).expect("the standard's own example");
        assert_eq!(read.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((read.span_id, read.sampled), (0x00f0_67aa_0ba9_02b7, true));
        let unsampled = TraceParent::read(&known.replace("-01", "-02")).expect("other flags");
        assert!(!unsampled.sampled);
        let later = format!("cc{}-what-will-be", &known[2..]);
        assert_eq!(TraceParent::read(&later), Some(read));
        for garbage in [
            "",
            "00",
            &known[1..],
            &format!("{known}-"),
            &format!("ff{}", &known[2..]),
            &known.to_uppercase(),
            &known.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &known.replace("00f067aa0ba902b7", "0000000000000000"),
            &known.replace('-', "_"),
            &known.replace("-01", "-0x"),
            &"ä".repeat(40),
        ] {
            assert_eq!(TraceParent::read(garbage), None, "{garbage:?}");
        }
    }
}
