//! What happened, for people.

/// The lines of one run; nothing is kept unless somebody is to read it.
#[derive(Default)]
pub struct Trace {
    pub on: bool,
    pub lines: Vec<String>,
    /// Of all lines: the same seed gives the same.
    pub hash: u64,
}

impl Trace {
    pub fn line(&mut self, steady_ms: i64, text: impl FnOnce() -> String) {
        if self.on {
            let line = format!("{steady_ms:>9} ms  {}", text());
            for byte in line.bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.lines.push(line);
        }
    }
}
