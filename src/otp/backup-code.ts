import { readTypedCode } from './typed-code.ts'

/** Crockford's base32: 32 letters and digits without I, L, O and U, so that nothing is read wrong off paper. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** 16 characters of 5 bits: 80 bits, out of reach of guessing even without a limit. */
export const BACKUP_CODE_BYTES = 16

/** A new backup code, four groups of four: `7K3M-9QXR-0VJD-F2TA`. `random` gives one byte for each character. */
export function formatBackupCode(random: Uint8Array): string {
  if (random.length !== BACKUP_CODE_BYTES)
    throw new RangeError(`a backup code requires ${BACKUP_CODE_BYTES} random bytes`)
  // 256 is a multiple of 32, so the low five bits of a random byte are unbiased.
  const letters = Array.from(random, (byte) => ALPHABET.charAt(byte & 31)).join('')
  return letters.replace(/(.{4})(?=.)/g, '$1-')
}

/**
 * The one spelling of a backup code that is digested and compared: case, spaces and hyphens forgiven, and the letters
 * that Crockford's alphabet leaves out read as what they look like (O as 0, I and L as 1).
 */
export function readBackupCode(typed: string): string {
  return readTypedCode(typed).toUpperCase().replaceAll('O', '0').replace(/[IL]/g, '1')
}
