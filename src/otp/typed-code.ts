/**
 * What a person meant by a typed code: spaces and hyphens of every kind taken out, compatibility forms such as
 * full-width digits folded (NFKC). One spelling per code, made before anything is counted or compared: a variant
 * that misses the "already used" check is a replay (Vault, CVE-2025-6015).
 */
export function readTypedCode(typed: string): string {
  return typed.normalize('NFKC').replace(/[\s\p{Dash}]/gu, '')
}

/** True when a typed code has the shape of an authenticator app's code; a backup code is longer, always. */
export function looksLikeTotpCode(typed: string): boolean {
  return /^[0-9]{1,8}$/.test(readTypedCode(typed))
}
