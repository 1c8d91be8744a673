import { parseFernetKey } from './crypto/fernet.ts'

/** The keys of an option or of an environment variable: a list, or one text with commas. Empty when there is none. */
export function readEncryptionKeys(value: string | readonly string[] | undefined): string[] {
  const keys = typeof value === 'string' ? value.split(',') : [...(value ?? [])]
  return keys.map((key) => key.trim()).filter((key) => key !== '')
}

/**
 * The value of the environment variable `TOTP_ENCRYPTION_KEY`, else `fallback`, checked: the original's function of
 * that name.
 *
 * @throws TypeError when there is neither, or one of the keys is not a Fernet key
 */
export function resolveFernetKey(fallback?: string): string {
  const value = process.env.TOTP_ENCRYPTION_KEY ?? fallback
  const keys = readEncryptionKeys(value)
  if (value === undefined || keys.length === 0) throw new TypeError('TOTP_ENCRYPTION_KEY is not set')
  keys.forEach(parseFernetKey)
  return value
}
