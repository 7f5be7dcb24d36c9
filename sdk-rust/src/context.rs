//! The causal context of a read: an opaque token that says which versions were seen.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

use crate::Error;

/// Longest token a node would take.
const CONTEXT_BYTES_MAX: usize = schema::convert::CONTEXT_BYTES_MAX;

/// Which versions of a key a read saw. Hand it back with the put or delete that replaces them; it means nothing for any
/// other key, and a node refuses it there. Its text form is base64url, the same in every language and in the command line.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Context(Bytes);

impl Context {
    /// The context of having seen nothing: a put under it adds a version beside whatever there is.
    pub const EMPTY: Self = Self(Bytes::new());

    /// The token's bytes, to keep or to send elsewhere.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A context from bytes that [`Context::as_bytes`] gave. Whether they are genuine is for the node to say.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() > CONTEXT_BYTES_MAX {
            let message = format!("context: {} bytes, but at most {CONTEXT_BYTES_MAX} are allowed", bytes.len());
            return Err(Error::too_large(message));
        }
        Ok(Self(bytes))
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn sealed(token: Bytes) -> Self {
        Self(token)
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Display for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Context({self})")
    }
}

impl FromStr for Context {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // Some encoders pad; padding alone is no text of theirs, and must not pass for the context that replaces nothing.
        let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
        if bare.is_empty() && !text.is_empty() {
            return Err(Error::invalid("context: not base64url (padding alone)"));
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(bare)
            .map_err(|error| Error::invalid(format!("context: not base64url ({error})")))?;
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Context;

    #[test]
    fn a_context_survives_its_text_form() {
        for bytes in [&b""[..], b"\x00\xff\xfe", b"abcd", b"12345"] {
            let context = Context::from_bytes(bytes.to_vec()).unwrap();
            assert_eq!(context.to_string().parse::<Context>().unwrap(), context);
        }
        assert_eq!(Context::EMPTY.to_string(), "");
    }

    #[test]
    fn text_that_is_no_context_is_refused() {
        assert!("with spaces".parse::<Context>().is_err());
        assert!("=".parse::<Context>().is_err());
        assert!("====".parse::<Context>().is_err());
        assert_eq!("YWI=".parse::<Context>().unwrap(), "YWI".parse::<Context>().unwrap());
        assert!("A".repeat(20_000).parse::<Context>().is_err());
    }
}
