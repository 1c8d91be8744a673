import type { UnixSeconds } from '../clock.ts'
import type { Keyring } from './keyring.ts'
import { isSealedValue } from './sealed-value.ts'

/** Seals and opens what a host keeps for itself. */
export interface HostValues {
  seal(value: string, at: UnixSeconds): string
  /** Null when no key opens the token, and for a value that the library stored for itself. */
  open(token: string): string | null
}

/**
 * Values of the host's have a key of their own, derived like those of the tokens: a text that somebody else has chosen must
 * not become a stored secret, nor a stored secret be read as a text of the host's. A Fernet token that another program
 * sealed under the key itself opens too.
 */
export function hostValues(keyring: Keyring): HostValues {
  const own = keyring.derive('host-value')
  return {
    seal: (value, at) => own.seal(value, at),
    open(token) {
      const opened = own.open(token)
      if (opened !== null) return opened.plaintext
      const foreign = keyring.open(token)
      return foreign === null || isSealedValue(foreign.plaintext) ? null : foreign.plaintext
    },
  }
}
