import { BlockList, isIP } from 'node:net'

/** The peer of a connection over a Unix-domain socket, which has no address. */
export const UNIX_SOCKET = 'unix'

/** The proxies whose word on the client's address is taken. */
export interface TrustedProxies {
  ranges: BlockList
  /** Whether the peer of a Unix-domain socket is one. */
  unixSocket: boolean
}

/**
 * @param proxies - addresses or CIDR ranges: `10.0.0.0/8`, `fd00::/8`, `127.0.0.1`; `unix` for a Unix-domain socket
 * @throws TypeError for anything else: a misspelt proxy must not end up trusting nobody or everybody
 */
export function trustedProxies(proxies: readonly string[]): TrustedProxies {
  const ranges = new BlockList()
  for (const proxy of proxies.filter((proxy) => proxy !== UNIX_SOCKET)) {
    const [address = '', prefix, ...more] = proxy.split('/')
    const family = isIP(address)
    const bits = prefix === undefined ? (family === 4 ? 32 : 128) : Number(prefix)
    if (family === 0 || more.length > 0 || !/^\d+$/.test(prefix ?? '0') || bits > (family === 4 ? 32 : 128)) {
      throw new TypeError(`trustedProxies: "${proxy}" is not an IP address, a CIDR range or "unix"`)
    }
    ranges.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6')
  }
  return { ranges, unixSocket: proxies.includes(UNIX_SOCKET) }
}

/**
 * The client's address: the socket's, unless that is a trusted proxy; then the last address in `X-Forwarded-For` that
 * is not one. Anything there that is no address ends the walk (authentik, CVE-2024-47070): the last good one counts.
 *
 * @param peer - the socket's address, or `unix`
 */
export function clientAddress(
  peer: string | undefined,
  forwardedFor: string | undefined,
  proxies: TrustedProxies | null,
): string | null {
  let address = unmapped(peer ?? '')
  if (isIP(address) === 0 && address !== UNIX_SOCKET) return null
  const hops = proxies && forwardedFor !== undefined ? forwardedFor.split(',').reverse() : []
  for (const hop of hops) {
    if (!proxies || !isTrusted(address, proxies)) break
    const next = unmapped(hop.trim())
    if (isIP(next) === 0) break
    address = next
  }
  return address === UNIX_SOCKET ? null : address
}

function isTrusted(address: string, { ranges, unixSocket }: TrustedProxies): boolean {
  return address === UNIX_SOCKET ? unixSocket : ranges.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')
}

/**
 * The one address that a text is, without the port that some platforms add: `192.0.2.1:80`, `[2001:db8::1]:80`. Null for
 * anything else, such as a whole `X-Forwarded-For`: text that a client can vary must not be a caller of its own.
 */
export function addressIn(text: string | null | undefined): string | null {
  const stated = typeof text === 'string' ? text.trim() : ''
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([\d.]+))(?::\d{1,5})?$/.exec(stated) ?? []
  return clientAddress(bracketed ?? plain ?? stated, undefined, null)
}

/** What an address is counted under: IPv6 by its /64, which one household or one attacker has whole. */
export function addressKey(address: string): string {
  const plain = unmapped(address)
  if (isIP(plain) !== 6) return plain
  const network = groupsOf(plain).slice(0, 4)
  return `${network.map((group) => group.toString(16)).join(':')}::/64`
}

/** An IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2) as IPv4, in any spelling. */
function unmapped(address: string): string {
  if (isIP(address) !== 6) return address
  const groups = groupsOf(address)
  const [high = 0, low = 0] = groups.slice(6)
  if (groups.slice(0, 5).some((group) => group !== 0) || groups[5] !== 0xffff) return address
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

/** The eight groups of an IPv6 address; its zone, if it names one, is left out. */
function groupsOf(address: string): number[] {
  const [bare = ''] = address.split('%')
  const hexadecimal = bare.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
  )
  const [left = [], right] = hexadecimal.split('::').map((half) => half.split(':').filter((group) => group !== ''))
  const zeros = right === undefined ? 0 : 8 - left.length - right.length
  return [...left, ...Array<string>(zeros).fill('0'), ...(right ?? [])].map((group) => Number.parseInt(group, 16))
}
