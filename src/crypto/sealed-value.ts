import type { UnixSeconds } from '../clock.ts'
import type { Keyring } from './keyring.ts'

const PURPOSES = ['totp-secret', 'backup-code', 'canary'] as const

/** What a stored value is and whose it is. Both are sealed in with it, so a row copied to another user does not open. */
export interface SealLabel {
  purpose: (typeof PURPOSES)[number]
  owner: string
}

/** Seals `value` for its owner and purpose. The timestamp inside the token is `at`. */
export function sealValue(keyring: Keyring, { purpose, owner }: SealLabel, value: string, at: UnixSeconds): string {
  return keyring.seal(JSON.stringify([purpose, owner, value]), at)
}

/** The value, or null when no key opens it or when it was sealed for another owner or purpose. */
export function openValue(keyring: Keyring, { purpose, owner }: SealLabel, sealed: string): string | null {
  const opened = keyring.open(sealed)
  if (opened === null) return null
  const prefix = `${JSON.stringify([purpose, owner]).slice(0, -1)},`
  if (!opened.plaintext.startsWith(prefix)) return null
  return (JSON.parse(opened.plaintext) as [string, string, string])[2]
}

/** True for the text inside a stored value, whoever owns it. */
export function isSealedValue(plaintext: string): boolean {
  return PURPOSES.some((purpose) => plaintext.startsWith(`${JSON.stringify([purpose]).slice(0, -1)},`))
}
