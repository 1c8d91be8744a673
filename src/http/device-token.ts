import type { Policy } from '../policy.ts'
import type { HeaderLookup } from './message.ts'

type TrustedDevices = Policy['trustedDevices']

/** The token of the device, from where the policy says it travels: the cookie, or the member of the body. */
export function deviceTokenOf(
  policy: TrustedDevices,
  request: { header: HeaderLookup },
  member: string | undefined,
): string | undefined {
  if (policy === null || policy.cookie === null) return member
  const pairs = (request.header('cookie') ?? '').split(/; */)
  return pairs.find((pair) => pair.startsWith(`${policy.cookie}=`))?.slice(policy.cookie.length + 1)
}

/**
 * Puts a device's token where it travels: into a member of the answer, or into a cookie that no script reads and that no
 * other site sends (RFC 6265bis §4.1.2). The token is of base64url and needs no quoting.
 */
export function withDeviceToken<Reply extends object>(
  policy: TrustedDevices,
  reply: Reply,
  token: string | null,
  setCookie: (cookie: string) => void,
): Reply & { trusted_device?: string } {
  if (policy === null || token === null) return reply
  if (policy.cookie === null) return { ...reply, trusted_device: token }
  setCookie(`${policy.cookie}=${token}; Max-Age=${policy.seconds}; Path=/; Secure; HttpOnly; SameSite=Strict`)
  return reply
}
