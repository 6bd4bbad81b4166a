/** Ids of operations: TypeIDs, a UUIDv7 in base32 behind a prefix (TypeID 0.3, RFC 9562). */

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/** A fresh id for a call that changes something. */
export function newOperationId(now: number = Date.now()): string {
  const random = crypto.getRandomValues(new Uint8Array(10));
  let bits = (BigInt(now) << 80n) | random.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  bits = (bits & ~(0xfn << 76n)) | (7n << 76n); // version
  bits = (bits & ~(0x3n << 62n)) | (2n << 62n); // variant
  let text = "";
  for (let place = 0; place < 26; place += 1) {
    text = ALPHABET.charAt(Number(bits & 31n)) + text;
    bits >>= 5n;
  }
  return `op_${text}`;
}
