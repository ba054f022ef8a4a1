//! From the wire form of a leaf to JSON.

use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value as Json};

use super::{MAX_ROWS, RenderError, encode};
use crate::catalogue::{Field, Value};

/// The value of a leaf in each row; a singular section is one row.
///
/// # Errors
/// [`RenderError`] unless the plaintext is, byte for byte, the encoding of a valid value.
pub(super) fn leaf(
    field: &'static Field,
    plaintext: &[u8],
) -> Result<Vec<Option<Json>>, RenderError> {
    let malformed = RenderError::Malformed { path: field.path };
    let rows = rows(field, plaintext).map_err(|fault| match fault {
        Fault::Malformed => malformed.clone(),
        Fault::UnknownCode => RenderError::UnknownCode { path: field.path },
    })?;
    let most = if field.column { MAX_ROWS } else { 1 };
    // Decoding is lenient; encoding again is what holds the value to every rule that a case file keeps,
    // and shows anything that decoding passed over.
    let cells: Vec<_> = rows.iter().map(Option::as_ref).collect();
    let mut violations = Vec::new();
    let again = encode::leaf(field, &cells, &mut violations);
    let sound = violations.is_empty()
        && again == plaintext
        && rows.len() <= most
        && rows.iter().any(Option::is_some);
    if sound { Ok(rows) } else { Err(malformed) }
}

enum Fault {
    Malformed,
    UnknownCode,
}

/// One field of a message as it stands on the wire.
enum Token<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

fn rows(field: &Field, plaintext: &[u8]) -> Result<Vec<Option<Json>>, Fault> {
    let mut rows = Vec::new();
    for token in tokens(plaintext, field.id.section_number())? {
        let Token::Bytes(row) = token else {
            return Err(Fault::Malformed);
        };
        rows.push(cell(field, tokens(row, field.id.field_number())?)?);
    }
    Ok(rows)
}

fn cell(field: &Field, tokens: Vec<Token<'_>>) -> Result<Option<Json>, Fault> {
    let mut items = Vec::new();
    for token in tokens {
        match (&field.value, token) {
            (kind @ Value::Code(_), Token::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    let number = decode_varint(&mut packed).map_err(|_| Fault::Malformed)?;
                    items.push(value(kind, Token::Varint(number))?);
                }
            }
            (kind, token) => items.push(value(kind, token)?),
        }
    }
    Ok(match items.len() {
        0 => None,
        _ if field.repeated => Some(Json::Array(items)),
        _ => items.pop(),
    })
}

fn value(kind: &Value, token: Token<'_>) -> Result<Json, Fault> {
    match (kind, token) {
        (Value::Text, Token::Bytes(text)) => match str::from_utf8(text) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(Fault::Malformed),
        },
        (Value::Bool, Token::Varint(truth)) => Ok((truth != 0).into()),
        (Value::Uint, Token::Varint(uint)) => Ok(uint.into()),
        (Value::Code(codes), Token::Varint(number)) => codes
            .iter()
            .find(|(code, _)| u64::try_from(*code) == Ok(number))
            .map(|(_, name)| (*name).into())
            .ok_or(Fault::UnknownCode),
        (Value::Group(members), Token::Bytes(group)) => {
            let mut object = Map::new();
            for member in *members {
                for token in tokens(group, member.number)? {
                    object.insert(member.name.to_owned(), value(&member.value, token)?);
                }
            }
            Ok(Json::Object(object))
        }
        (_, Token::Varint(_) | Token::Bytes(_)) => Err(Fault::Malformed),
    }
}

/// The fields of a message that have this number.
fn tokens(mut message: &[u8], number: u32) -> Result<Vec<Token<'_>>, Fault> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).map_err(|_| Fault::Malformed)?;
        let varint = decode_varint(&mut message).map_err(|_| Fault::Malformed)?;
        let token = if wire == WireType::Varint {
            Token::Varint(varint)
        } else if wire == WireType::LengthDelimited {
            let (bytes, rest) = usize::try_from(varint)
                .ok()
                .and_then(|length| message.split_at_checked(length))
                .ok_or(Fault::Malformed)?;
            message = rest;
            Token::Bytes(bytes)
        } else {
            return Err(Fault::Malformed);
        };
        if tag == number {
            found.push(token);
        }
    }
    Ok(found)
}
