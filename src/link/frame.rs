//! Frames on a stream socket: four bytes of length (little endian), one byte of kind, the body.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest body. A tool result of 20 MB, escaped twice, has to fit.
pub const BODY_MAX: usize = 64 << 20;
/// Bytes of an archive that go into one frame.
pub const CHUNK: usize = 128 << 10;

const KIND_JSON: u8 = b'J';
const KIND_CHUNK: u8 = b'B';
const KIND_PART: u8 = b'P';
/// Length of what precedes the bytes of a part: the number of its request.
const PART_HEAD: usize = 8;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message as JSON.
    Json(Vec<u8>),
    /// A piece of an archive; an empty one ends it.
    Chunk(Vec<u8>),
    /// A piece of one of several archives that are sent at the same time, and the number of the
    /// request that asked for it (little endian). From protocol 2 on.
    Part(u64, Vec<u8>),
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed, or ended inside a frame.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    /// The other end is not speaking this language.
    #[error("frame of unknown kind {0:#04x}")]
    Kind(u8),
    /// The frame is larger than allowed.
    #[error("frame of {0} bytes, at most {BODY_MAX} are allowed")]
    TooLarge(usize),
    /// The body is too short for what it should be.
    #[error("frame of {0} bytes is too short")]
    TooShort(usize),
    /// The body is not the message it should be.
    #[error("message can not be read")]
    Json(#[from] serde_json::Error),
}

/// Reads the next frame; `None` when the other end closed the connection between frames.
///
/// # Cancel safety
///
/// Not cancel safe: a task of its own should read.
pub async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Option<Frame>, FrameError> {
    let mut head = [0; 5];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > BODY_MAX {
        return Err(FrameError::TooLarge(length));
    }
    // The buffer grows with what really arrives, so that a length alone costs nothing.
    let mut body = Vec::with_capacity(length.min(CHUNK));
    from.take(length as u64).read_to_end(&mut body).await?;
    if body.len() != length {
        return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    match head[4] {
        KIND_JSON => Ok(Some(Frame::Json(body))),
        KIND_CHUNK => Ok(Some(Frame::Chunk(body))),
        KIND_PART => match body.split_first_chunk::<PART_HEAD>() {
            Some((head, bytes)) => Ok(Some(Frame::Part(u64::from_le_bytes(*head), bytes.to_vec()))),
            None => Err(FrameError::TooShort(body.len())),
        },
        other => Err(FrameError::Kind(other)),
    }
}

/// The bytes of a JSON frame.
pub fn encode<T: serde::Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 5];
    serde_json::to_writer(&mut bytes, message)?;
    finish(bytes, KIND_JSON)
}

/// The bytes of a JSON frame whose body was written before, in parts.
pub fn encode_parts(parts: &[&[u8]]) -> Result<Vec<u8>, FrameError> {
    encode_bytes(parts, KIND_JSON)
}

fn encode_bytes(parts: &[&[u8]], kind: u8) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(5 + parts.iter().map(|part| part.len()).sum::<usize>());
    bytes.extend_from_slice(&[0; 5]);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    finish(bytes, kind)
}

/// The bytes of a chunk frame.
pub fn encode_chunk(chunk: &[u8]) -> Result<Vec<u8>, FrameError> {
    encode_bytes(&[chunk], KIND_CHUNK)
}

/// The bytes of a frame with a part of the archive that was asked for under this number.
pub fn encode_part(op: u64, bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    encode_bytes(&[&op.to_le_bytes(), bytes], KIND_PART)
}

fn finish(mut bytes: Vec<u8>, kind: u8) -> Result<Vec<u8>, FrameError> {
    let length = bytes.len() - 5;
    let head = u32::try_from(length).ok().filter(|_| length <= BODY_MAX).ok_or(FrameError::TooLarge(length))?;
    bytes[..4].copy_from_slice(&head.to_le_bytes());
    bytes[4] = kind;
    Ok(bytes)
}

/// Writes a message as one frame.
pub async fn write<W: AsyncWrite + Unpin, T: serde::Serialize>(to: &mut W, message: &T) -> Result<(), FrameError> {
    Ok(to.write_all(&encode(message)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_read_back_in_order() {
        let mut bytes = encode(&serde_json::json!({"a": 1})).expect("fits");
        bytes.extend(encode_chunk(b"\0\xff").expect("fits"));
        bytes.extend(encode_chunk(b"").expect("fits"));
        bytes.extend(encode_part(7, b"\0").expect("fits"));
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from).await.expect("reads"), Some(Frame::Json(b"{\"a\":1}".to_vec())));
        assert_eq!(read(&mut from).await.expect("reads"), Some(Frame::Chunk(b"\0\xff".to_vec())));
        assert_eq!(read(&mut from).await.expect("reads"), Some(Frame::Chunk(Vec::new())));
        assert_eq!(read(&mut from).await.expect("reads"), Some(Frame::Part(7, b"\0".to_vec())));
        assert_eq!(read(&mut from).await.expect("reads"), None);
    }

    #[tokio::test]
    async fn a_bad_stream_is_an_error_and_allocates_nothing_large() {
        let too_large = [0xff, 0xff, 0xff, 0xff, b'J'];
        assert!(matches!(read(&mut too_large.as_slice()).await, Err(FrameError::TooLarge(_))));
        let cut = [10, 0, 0, 0, b'J', b'{'];
        assert!(matches!(read(&mut cut.as_slice()).await, Err(FrameError::Io(_))));
        let short = [1, 0, 0, 0, b'P', 0];
        assert!(matches!(read(&mut short.as_slice()).await, Err(FrameError::TooShort(1))));
        let unknown = [0, 0, 0, 0, b'X'];
        assert!(matches!(read(&mut unknown.as_slice()).await, Err(FrameError::Kind(b'X'))));
    }

    /// Makes a frame of a message, mostly, and the length of another frame right.
    fn mend(bytes: &mut Vec<u8>, random: &mut crate::hostile::Random) {
        if random.below(8) == 0 {
            return;
        }
        if bytes.first() == Some(&b'{') {
            *bytes = encode_parts(&[bytes]).expect("fits");
        } else if bytes.len() > 5 {
            let length = u32::try_from(bytes.len() - 5).expect("small");
            bytes[..4].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// The recorded messages of all protocols, and frames of archives.
    fn seeds() -> Vec<Vec<u8>> {
        #[derive(serde::Deserialize)]
        struct Line<'a> {
            // Some numbers are too large for a value.
            #[serde(borrow)]
            message: &'a serde_json::value::RawValue,
        }
        let recorded = [1, 2, 3].map(|protocol| {
            let path = format!("{}/tests/fixtures/protocol-{protocol}.jsonl", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
        let messages = recorded.iter().flat_map(|text| text.lines()).map(|line| {
            let line: Line<'_> = serde_json::from_str(line).expect("JSON");
            line.message.get().as_bytes().to_vec()
        });
        let archives =
            [encode_chunk(b"\0\xff").expect("fits"), encode_chunk(b"").expect("fits"), encode_part(7, b"x").expect("fits")];
        messages.chain(archives).collect()
    }

    #[test]
    fn no_bytes_are_too_much_for_frames_and_the_messages_in_them() {
        use crate::link::shim::{FromShim, ToShim};
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let target = crate::hostile::Target {
            name: "frames between daemon and shim",
            seeds: seeds(),
            words: &[b"\0\0\0\0J", b"\xff\xff\xff\xffJ", b"\x01\0\0\0P", b"\0\0\0\x04B", b"null", b"{}", b"[]", b"\"op\":"],
            is_json: true,
            mend,
            ..Default::default()
        };
        let mut messages = 0;
        target.attack(|bytes| {
            let (mut from, mut taken) = (bytes, 0);
            while let Ok(Some(frame)) = runtime.block_on(read(&mut from)) {
                if let Frame::Json(body) = &frame {
                    // What is a message is the same one after it was written again.
                    if let Ok(message) = serde_json::from_slice::<ToShim>(body) {
                        messages += 1;
                        let again = serde_json::to_vec(&message).expect("is written");
                        let message: ToShim = serde_json::from_slice(&again).expect("reads back");
                        assert_eq!(serde_json::to_vec(&message).expect("is written"), again);
                    }
                    if let Ok(message) = serde_json::from_slice::<FromShim>(body) {
                        messages += 1;
                        let again = serde_json::to_vec(&message).expect("is written");
                        serde_json::from_slice::<FromShim>(&again).expect("reads back");
                    }
                }
                let (Frame::Json(body) | Frame::Chunk(body) | Frame::Part(_, body)) = frame;
                taken += 5 + body.len();
                assert!(taken <= bytes.len(), "no more is read than there is");
            }
        });
        assert!(messages > 20, "some changes leave a message: {messages}");
    }

    #[test]
    fn no_bytes_are_too_much_for_datagrams_between_shim_and_init() {
        use crate::link::inner::{FromInit, ToInit};
        let seeds = [
            r#"{"type":"ready"}"#,
            r#"{"type":"spawned","handle":1,"pid":7}"#,
            r#"{"type":"listening","handle":2,"port":4000}"#,
            r#"{"type":"failed","handle":3,"error":"no such file"}"#,
            r#"{"type":"exited","handle":4,"code":null,"signal":9}"#,
            r#"{"type":"spawn","handle":5,"argv":["/bin/sh","-c","true"],"env":[["PATH","/usr/bin"]],"cwd":"/work"}"#,
            r#"{"type":"signal","handle":6,"signal":15,"group":true}"#,
            r#"{"type":"kill_all","spare":[1,2]}"#,
            r#"{"type":"kill_all","handle":8}"#,
            r#"{"type":"killed","handle":8}"#,
            r#"{"type":"listen","handle":7,"port":0}"#,
        ];
        let target = crate::hostile::Target {
            name: "datagrams between shim and init",
            seeds: seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
            words: &[b"\"handle\":", b"\"type\":", b"null", b"{}", b"[]"],
            is_json: true,
            ..Default::default()
        };
        target.attack(|bytes| {
            if let Ok(message) = serde_json::from_slice::<FromInit>(bytes) {
                let again = serde_json::to_vec(&message).expect("is written");
                serde_json::from_slice::<FromInit>(&again).expect("reads back");
            }
            if let Ok(message) = serde_json::from_slice::<ToInit>(bytes) {
                let again = serde_json::to_vec(&message).expect("is written");
                serde_json::from_slice::<ToInit>(&again).expect("reads back");
            }
        });
    }
}
