const KEY = 'totp-kit-demo-trusted-device:'

// localStorage, because a device stays trusted after the browser was closed. Any script that runs on this page can read
// it; the server still asks for the password. A real app had rather set `trustedDevices.cookie`, so that no script can.
export function readDeviceToken(username: string): string | null {
  return localStorage.getItem(KEY + username)
}

/** Keeps the token, which replaces the one before; null forgets it. */
export function keepDeviceToken(username: string, token: string | null): void {
  if (token === null) localStorage.removeItem(KEY + username)
  else localStorage.setItem(KEY + username, token)
}
