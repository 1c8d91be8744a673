/**
 * What a person meant by a typed code: spaces, hyphens and invisible marks of every kind taken out (they come along when
 * a code is copied), compatibility forms such as full-width digits folded (NFKC). One spelling per code, made before
 * anything is counted or compared: a variant that misses the "already used" check is a replay (Vault, CVE-2025-6015).
 */
export function readTypedCode(typed: string): string {
  return typed.normalize('NFKC').replace(/[\s\p{Dash}\p{Cf}]/gu, '')
}

/** True when a typed code has the shape of an authenticator app's code; a backup code is longer, always. */
export function looksLikeTotpCode(typed: string): boolean {
  return /^[0-9]{1,8}$/.test(readTypedCode(typed))
}
