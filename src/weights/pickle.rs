//! Reads Python's pickle format without executing anything: what a pickle would import and call is kept as a name and
//! its arguments. Protocols 2 to 5, as PyTorch writes them.

use std::collections::HashMap;
use std::io::Read;

/// A value's place in [`Pickle::values`]; containers refer to what they hold, so shared and cyclic values are no matter.
pub(super) type Id = usize;

/// The longest name of what a pickle imports: one that is kept once may be imported often.
const LONGEST_NAME: usize = 1024;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Numbers with a point, bytes, sets, `None` and whatever else nobody here asks for.
    Other,
    Bool(bool),
    Integer(i64),
    Text(String),
    /// The name of a class or function, `module.name`.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A reference to something outside the pickle; PyTorch's storages.
    Persistent(Id),
    /// What Python would call, with what, and what it would put into the result.
    Call {
        callee: Id,
        arguments: Id,
        state: Option<Id>,
        entries: Vec<(Id, Id)>,
    },
}

/// All values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The value that the pickle stands for.
    pub(super) root: Id,
}

impl Pickle {
    /// Reads one pickle, up to its end and no further.
    pub(super) fn read(input: &mut impl Read) -> Result<Pickle, String> {
        let mut machine =
            Machine { input, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
        let root = machine.run()?;
        Ok(Pickle { values: machine.values, root })
    }

    /// The value there.
    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// All values, in the order in which they stand in the file.
    pub(super) fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.values.iter()
    }

    /// The text there, if it is one.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    /// The integer there, if it is one.
    pub(super) fn integer(&self, id: Id) -> Option<i64> {
        if let Value::Integer(number) = self.get(id) { Some(*number) } else { None }
    }

    /// The name of the class or function there, if it is one.
    pub(super) fn global(&self, id: Id) -> Option<&str> {
        if let Value::Global(name) = self.get(id) { Some(name) } else { None }
    }

    /// The items of the tuple or list there, if it is one.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) | Value::List(items) = self.get(id) { Some(items) } else { None }
    }

    /// The entries of the dictionary there, ordered ones too, if it is one.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(entries) => Some(entries),
            Value::Call { callee, entries, .. } if self.global(*callee) == Some("collections.OrderedDict") => {
                Some(entries)
            }
            _ => None,
        }
    }

    /// The value of a text key in the dictionary there.
    pub(super) fn entry(&self, id: Id, key: &str) -> Option<Id> {
        self.entries(id)?.iter().find(|(known, _)| self.text(*known) == Some(key)).map(|(_, value)| *value)
    }
}

/// The stack machine that a pickle is a program for.
struct Machine<'a, R> {
    input: &'a mut R,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let [operation] = self.bytes()?;
            match operation {
                b'.' => return self.pop(),
                0x80 => match self.bytes()? {
                    [2..=5] => {}
                    [protocol] => return Err(format!("it is a pickle of protocol {protocol}, not of 2 to 5")),
                },
                0x95 => drop(self.bytes::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::Other),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?);
                    self.push(Value::Integer(number.into()));
                }
                b'K' | b'M' => {
                    let number = self.length(if operation == b'K' { 1 } else { 2 })?;
                    self.push(Value::Integer(number as i64));
                }
                0x8a | 0x8b => {
                    let length = self.length(if operation == 0x8a { 1 } else { 4 })?;
                    let value = integer(&self.block(length)?).map_or(Value::Other, Value::Integer);
                    self.push(value);
                }
                b'G' => {
                    self.bytes::<8>()?;
                    self.push(Value::Other);
                }
                0x8c => self.text(1)?,
                b'X' => self.text(4)?,
                0x8d => self.text(8)?,
                b'U' | b'C' => self.skip(1)?,
                b'T' | b'B' => self.skip(4)?,
                0x8e | 0x96 => self.skip(8)?,
                b')' => self.push(Value::Tuple(Vec::new())),
                0x85..=0x87 => {
                    let start = self.stack.len().checked_sub(usize::from(operation - 0x84)).ok_or_else(empty)?;
                    let items = self.stack.split_off(start);
                    self.push(Value::Tuple(items));
                }
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items));
                }
                b']' => self.push(Value::List(Vec::new())),
                b'l' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::List(items));
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b'd' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Dict(pairs(&items)));
                }
                0x8f => self.push(Value::Other),
                0x91 => {
                    self.pop_to_mark()?;
                    self.push(Value::Other);
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_to_mark()?;
                    self.append(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set(&items)?;
                }
                b'q' => self.remember(1)?,
                b'r' => self.remember(4)?,
                0x94 => {
                    let top = self.top()?;
                    self.memo.insert(self.memo.len() as u64, top);
                }
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(format!("{module}.{name}")));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                        return Err("it imports something without a name".to_owned());
                    };
                    if module.len() + name.len() > LONGEST_NAME {
                        return Err("it imports something with too long a name".to_owned());
                    }
                    let name = format!("{module}.{name}");
                    self.push(Value::Global(name));
                }
                b'Q' => {
                    let reference = self.pop()?;
                    self.push(Value::Persistent(reference));
                }
                b'R' | 0x81 => self.call()?,
                0x92 => {
                    // Named arguments of a class.
                    self.pop()?;
                    self.call()?;
                }
                b'b' => {
                    let state = self.pop()?;
                    let top = self.top()?;
                    if let Value::Call { state: kept, .. } = &mut self.values[top] {
                        *kept = Some(state);
                    }
                }
                other => return Err(format!("it uses the pickle operation {other:#04x}, which is not read")),
            }
        }
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(empty)
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(empty)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(empty)?;
        Ok(self.stack.split_off(mark))
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        self.push(Value::Call { callee, arguments, state: None, entries: Vec::new() });
        Ok(())
    }

    /// Appends to the list on top; in anything else the items have no meaning here.
    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        if let Value::List(list) = &mut self.values[top] {
            list.extend(items);
        }
        Ok(())
    }

    /// Sets entries of what is on top.
    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        if let Value::Dict(entries) | Value::Call { entries, .. } = &mut self.values[top] {
            entries.extend(pairs(items));
        }
        Ok(())
    }

    fn remember(&mut self, width: usize) -> Result<(), String> {
        let place = self.length(width)?;
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let place = self.length(width)?;
        let id = self.memo.get(&place).ok_or("it recalls a value that it has not kept")?;
        self.stack.push(*id);
        Ok(())
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        let text = String::from_utf8(self.block(length)?).map_err(|_| "it holds a text that is not UTF-8")?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn skip(&mut self, width: usize) -> Result<(), String> {
        let length = self.length(width)?;
        self.block(length)?;
        self.push(Value::Other);
        Ok(())
    }

    /// A line of text, without its end.
    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return String::from_utf8(line).map_err(|_| "it holds a name that is not UTF-8".to_owned()),
                [byte] => line.push(byte),
            }
        }
    }

    /// An unsigned number of `width` bytes.
    fn length(&mut self, width: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes[..width]).map_err(|error| ended(&error))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next `length` bytes; never more memory than the input holds.
    fn block(&mut self, length: u64) -> Result<Vec<u8>, String> {
        let mut block = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut block).map_err(|error| error.to_string())?;
        if (read as u64) < length { Err(cut_off()) } else { Ok(block) }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| ended(&error))?;
        Ok(bytes)
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// A little-endian number in two's complement, if it fits.
fn integer(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}

fn empty() -> String {
    "its pickle takes more than it has put down".to_owned()
}

/// What is said of a file that ends too early.
pub(super) fn cut_off() -> String {
    "it is cut off: copy or fetch it again".to_owned()
}

fn ended(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => cut_off(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pickle, String> {
        Pickle::read(&mut &bytes[..])
    }

    #[test]
    fn values_are_read_and_the_rest_of_the_input_is_left() {
        // pickle.dumps({"a": [1, 300, -2, True, 2**40], "b": (None, 1.5)}, 2), and something behind it
        let mut input: &[u8] =
            b"\x80\x02}q\0(X\x01\0\0\0aq\x01]q\x02(K\x01M,\x01J\xfe\xff\xff\xff\x88\x8a\x06\0\0\0\0\0\x01eX\
            \x01\0\0\0bq\x03NG?\xf8\0\0\0\0\0\0\x86q\x04u.rest";
        let pickle = Pickle::read(&mut input).unwrap();
        assert_eq!(input, b"rest");
        let list = pickle.items(pickle.entry(pickle.root, "a").unwrap()).unwrap();
        let integers: Vec<Option<i64>> = list.iter().map(|id| pickle.integer(*id)).collect();
        assert_eq!(integers, [Some(1), Some(300), Some(-2), None, Some(1 << 40)]);
        assert_eq!(pickle.get(list[3]), &Value::Bool(true));
        let pair = pickle.items(pickle.entry(pickle.root, "b").unwrap()).unwrap();
        assert!(pair.iter().all(|id| pickle.get(*id) == &Value::Other));
        assert_eq!(pickle.entry(pickle.root, "c"), None);
    }

    #[test]
    fn what_python_would_execute_is_only_named() {
        // os.system("true"), protocol 2; then protocol 4, where the name is on the stack
        for bytes in [
            b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.".as_slice(),
            b"\x80\x04\x95\x14\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R.",
        ] {
            let pickle = read(bytes).unwrap();
            let Value::Call { callee, arguments, .. } = pickle.get(pickle.root) else { panic!("{pickle:?}") };
            assert_eq!(pickle.global(*callee), Some("os.system"));
            assert_eq!(pickle.text(pickle.items(*arguments).unwrap()[0]), Some("true"));
        }
    }

    #[test]
    fn a_list_may_hold_itself() {
        let pickle = read(b"\x80\x02]q\0h\0a.").unwrap();
        assert_eq!(pickle.items(pickle.root), Some([pickle.root].as_slice()));
    }

    #[test]
    fn damage_is_refused() {
        let cases: [(&[u8], &str); 10] = [
            (b"", "it is cut off"),
            (b"\x80\x02", "it is cut off"),
            (b"\x80\x02.", "takes more than it has put down"),
            (b"\x80\x02K\x01\x87.", "takes more than it has put down"),
            (b"\x80\x02u.", "takes more than it has put down"),
            (b"\x80\x02(K\x0100t.", "takes more than it has put down"),
            (b"\x80\x02h\x07.", "has not kept"),
            (b"\x80\x02X\xff\xff\xff\xffshort", "it is cut off"),
            (b"\x80\x09.", "protocol 9, not of 2 to 5"),
            (b"\x80\x02i.", "operation 0x69"),
        ];
        for (bytes, expected) in cases {
            let message = read(bytes).unwrap_err();
            assert!(message.contains(expected), "{message}\ndoes not say: {expected}");
        }
    }
}
