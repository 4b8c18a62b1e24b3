// Reads what packed.py wrote: a column is decoded when it is first looked at, so that opening the page costs nothing for those that are not.
function bytesOf(base64) {
  const raw = atob(base64), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

function columnOf(packed) {
  const kinds = { 8: Uint8Array, 16: Uint16Array, 32: Uint32Array };
  const isNumber = packed.numbers !== undefined;
  let values = null, codes = null;
  function load() {
    if (values !== null) return;
    values = isNumber ? new Float64Array(bytesOf(packed.numbers)) : packed.text;
    codes = packed.at === undefined ? null : new kinds[packed.bits](bytesOf(packed.at));
  }
  return {
    isNumber,
    // The different values; code(i) says which of them row i has.
    values() { load(); return values; },
    code(i) { load(); return codes ? codes[i] : values.length === 1 ? 0 : i; },
    // null where it is missing
    at(i) {
      const value = this.values()[this.code(i)];
      return isNumber && Number.isNaN(value) ? null : value;
    },
  };
}
