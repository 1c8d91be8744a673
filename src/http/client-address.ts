import { BlockList, isIP } from 'node:net'

/** The proxies whose word on the client's address is taken. */
export type TrustedProxies = BlockList

/**
 * @param proxies - addresses or CIDR ranges: `10.0.0.0/8`, `fd00::/8`, `127.0.0.1`
 * @throws TypeError for anything else: a misspelt proxy must not end up trusting nobody or everybody
 */
export function trustedProxies(proxies: readonly string[]): TrustedProxies {
  const list = new BlockList()
  for (const proxy of proxies) {
    const [address = '', prefix] = proxy.split('/')
    const family = isIP(address)
    const bits = prefix === undefined ? (family === 4 ? 32 : 128) : Number(prefix)
    if (family === 0 || !/^\d+$/.test(prefix ?? '0') || bits > (family === 4 ? 32 : 128)) {
      throw new TypeError(`trustedProxies: "${proxy}" is neither an address nor a CIDR range`)
    }
    list.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6')
  }
  return list
}

/**
 * The client's address: the socket's, unless that is a trusted proxy; then the last address in `X-Forwarded-For` that
 * is not one. Anything there that is no address ends the walk (authentik, CVE-2024-47070): the last good one counts.
 */
export function clientAddress(
  socketAddress: string | undefined,
  forwardedFor: string | undefined,
  proxies: TrustedProxies | null,
): string | null {
  if (socketAddress === undefined || isIP(unmapped(socketAddress)) === 0) return null
  let address = unmapped(socketAddress)
  const hops = proxies && forwardedFor !== undefined ? forwardedFor.split(',').reverse() : []
  for (const hop of hops) {
    if (!proxies?.check(address, isIP(address) === 4 ? 'ipv4' : 'ipv6')) break
    const next = unmapped(hop.trim())
    if (isIP(next) === 0) break
    address = next
  }
  return address
}

/** What an address is counted under: IPv6 by its /64, which one household or one attacker has whole. */
export function addressKey(address: string): string {
  const plain = unmapped(address)
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = plain.split('%')[0]?.split('::') ?? []
  const groups = head === '' ? [] : head.split(':')
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === '' ? 0 : tail.split(':').length)
  const whole = [...groups, ...Array<string>(Math.max(0, missing)).fill('0'), ...(tail ? tail.split(':') : [])]
  const network = whole.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16))
  return `${network.join(':')}::/64`
}

function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}
