export interface Tokens {
  access: string
  refresh: string
}

const KEY = 'totp-kit-demo-tokens'

// sessionStorage so that a reload stays logged in. Any script that runs on this page can read it, so one injected
// script takes the session away with it. A real app had rather keep the refresh token in a cookie that is HttpOnly,
// Secure and SameSite, which no script can read, and the access token in memory.
export function readTokens(): Tokens | null {
  const stored = sessionStorage.getItem(KEY)
  return stored === null ? null : (JSON.parse(stored) as Tokens)
}

export function saveTokens({ access, refresh }: Tokens): void {
  sessionStorage.setItem(KEY, JSON.stringify({ access, refresh }))
}

export function forgetTokens(): void {
  sessionStorage.removeItem(KEY)
}
