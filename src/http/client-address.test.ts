import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressIn, addressKey, clientAddress, trustedProxies } from './client-address.ts'

const proxies = trustedProxies(['10.0.0.0/8', '192.168.1.1', 'fd00::/8', '::1'])

describe("the client's address", () => {
  test.each([
    ['203.0.113.9', undefined],
    ['203.0.113.9', '198.51.100.7'],
    ['::ffff:203.0.113.9', '10.0.0.1'],
  ])('is that of the socket when no proxy is trusted: %s, X-Forwarded-For %s', (socket, forwarded) => {
    expect(clientAddress(socket, forwarded, null)).toBe('203.0.113.9')
  })

  test('is that of the socket when the socket is no trusted proxy, whatever it claims', () => {
    for (const claim of ['198.51.100.7', '10.0.0.1', '198.51.100.7, 10.0.0.1', '::1', 'garbage']) {
      expect(clientAddress('203.0.113.9', claim, proxies)).toBe('203.0.113.9')
    }
  })

  test.each([
    ['10.1.2.3', '198.51.100.7', '198.51.100.7'],
    ['10.1.2.3', ' 198.51.100.7 ', '198.51.100.7'],
    ['10.1.2.3', '1.1.1.1, 198.51.100.7', '198.51.100.7'],
    ['10.1.2.3', '1.1.1.1,198.51.100.7,10.9.9.9,192.168.1.1', '198.51.100.7'],
    ['10.1.2.3', '198.51.100.7, 192.168.1.2', '192.168.1.2'],
    ['::ffff:10.1.2.3', '2001:db8::7', '2001:db8::7'],
    ['::ffff:a01:203', '2001:db8::7', '2001:db8::7'],
    ['fd12:3456::1', '::ffff:198.51.100.7', '198.51.100.7'],
    ['::1', '198.51.100.7', '198.51.100.7'],
    // Trusted proxies all the way: the first of them is the client.
    ['10.1.2.3', '10.0.0.5, 10.0.0.6', '10.0.0.5'],
  ])('is the last one before the trusted proxies: socket %s, X-Forwarded-For %s', (socket, forwarded, address) => {
    expect(clientAddress(socket, forwarded, proxies)).toBe(address)
  })

  test.each([
    ['', '10.1.2.3'],
    [',', '10.1.2.3'],
    ['unknown', '10.1.2.3'],
    ['198.51.100.7:4711', '10.1.2.3'],
    ['198.51.100', '10.1.2.3'],
    ['[2001:db8::7]', '10.1.2.3'],
    ['for=198.51.100.7', '10.1.2.3'],
    ['198.51.100.7, garbage', '10.1.2.3'],
    ['198.51.100.7, garbage, 10.0.0.6', '10.0.0.6'],
    ['198.51.100.7, , 10.0.0.6', '10.0.0.6'],
  ])('ends at garbage: X-Forwarded-For %j', (forwarded, address) => {
    expect(clientAddress('10.1.2.3', forwarded, proxies)).toBe(address)
  })

  test('is unknown where there is no socket address', () => {
    for (const socket of [undefined, '', '/run/app.sock']) {
      expect(clientAddress(socket, '198.51.100.7', proxies)).toBeNull()
    }
  })

  test.each([
    ['198.51.100.7', '198.51.100.7'],
    ['1.1.1.1, 198.51.100.7, 10.0.0.5', '198.51.100.7'],
    ['198.51.100.7, garbage', null],
    ['unix', null],
    ['198.51.100.7, unix', null],
    ['', null],
    [undefined, null],
  ])(
    'behind a proxy on a Unix-domain socket is what that proxy says, where it is trusted: %s',
    (forwarded, address) => {
      expect(clientAddress('unix', forwarded, trustedProxies(['unix', '10.0.0.0/8']))).toBe(address)
      expect(clientAddress('unix', forwarded, proxies)).toBeNull()
      expect(clientAddress('unix', forwarded, null)).toBeNull()
    },
  )

  test('to trust a Unix-domain socket is to trust no address', () => {
    expect(clientAddress('203.0.113.9', '198.51.100.7', trustedProxies(['unix']))).toBe('203.0.113.9')
    expect(clientAddress(undefined, '198.51.100.7', trustedProxies(['unix']))).toBeNull()
  })

  test('of a link-local socket with a zone is no error', () => {
    expect(clientAddress('fe80::1%eth0', '198.51.100.7', proxies)).toBe('fe80::1%eth0')
    expect(clientAddress('10.1.2.3', 'fe80::1%eth0', proxies)).toBe('fe80::1%eth0')
  })

  test('is an address or unknown, and never throws, for any header', () => {
    const hop = fc.oneof(fc.string({ unit: 'binary' }), fc.ipV4(), fc.ipV6(), fc.constantFrom('10.0.0.1', '::1', 'a%b'))
    const header = fc.array(hop, { maxLength: 6 }).map((hops) => hops.join(', '))
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.constant('10.0.0.1')), header, (socket, forwarded) => {
        expect(addressKey(clientAddress(socket, forwarded, proxies) ?? '')).toMatch(/^[\d.]+$|^[\da-f:]+::\/64$/)
      }),
    )
  })
})

describe('an address that a platform states', () => {
  test.each([
    ['203.0.113.7', '203.0.113.7'],
    [' 203.0.113.7 ', '203.0.113.7'],
    ['203.0.113.7:2001', '203.0.113.7'],
    ['[203.0.113.7]:2001', '203.0.113.7'],
    ['2001:db8::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:2001', '2001:db8::1'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['[::ffff:203.0.113.7]:80', '203.0.113.7'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
  ])('is read without its port: %s', (text, address) => {
    expect(addressIn(text)).toBe(address)
  })

  test.each([
    null,
    undefined,
    '',
    'unknown',
    'unix',
    '203.0.113.7, 198.51.100.7',
    '203.0.113.7:',
    '203.0.113.7:port',
    '203.0.113.7:123456',
    '[2001:db8::1',
    '[2001:db8::1]x',
    '[]:80',
    '203.0.113',
    'for=203.0.113.7',
  ])('is unknown where it is not one address: %s', (text) => {
    expect(addressIn(text)).toBeNull()
  })
})

describe('trusted proxies', () => {
  test.each([
    'localhost',
    '',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/-1',
    '10.0.0.0/8/9',
    '10.0.0.0/8.5',
    '10.0.0/8',
    '::1/129',
    'fd00::/x',
    '*',
    'unix:',
    'Unix',
    'unix/8',
  ])('%j is a mistake, not a proxy', (proxy) => {
    expect(() => trustedProxies(['10.0.0.0/8', proxy])).toThrow(TypeError)
  })

  test('of an empty list are none', () => {
    expect(clientAddress('10.1.2.3', '198.51.100.7', trustedProxies([]))).toBe('10.1.2.3')
  })

  test('a range of every address trusts every address', () => {
    const everybody = trustedProxies(['0.0.0.0/0', '::/0'])
    expect(clientAddress('203.0.113.9', '2001:db8::1, 198.51.100.7', everybody)).toBe('2001:db8::1')
  })
})

describe('what an address is counted under', () => {
  /** Eight groups of an IPv6 address, of which some are zero. */
  const group = fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.nat(0xffff) })
  const half = fc.tuple(group, group, group, group)
  const network = half.filter((groups) => groups.some((value) => value !== 0))

  /** An address in one of the ways in which people and programs write it (RFC 4291 §2.2). */
  function spellings(groups: readonly number[]): fc.Arbitrary<string> {
    const plain = groups.map((value) => value.toString(16)).join(':')
    const padded = groups.map((value) => value.toString(16).padStart(4, '0')).join(':')
    const short = new URL(`http://[${plain}]`).hostname.slice(1, -1)
    const [a = 0, b = 0] = groups.slice(6)
    const dotted = [
      ...groups.slice(0, 6).map((v) => v.toString(16)),
      [a >> 8, a & 255, b >> 8, b & 255].join('.'),
    ].join(':')
    return fc
      .constantFrom(plain, padded, short, dotted, `${short}%eth0`)
      .chain((spelling) => fc.constantFrom(spelling, spelling.toUpperCase()))
  }

  test('is one for all addresses of a /64, however they are spelled', () => {
    const pairs = fc
      .tuple(network, half, half)
      .chain(([net, one, other]) => fc.tuple(spellings([...net, ...one]), spellings([...net, ...other])))
    fc.assert(
      fc.property(pairs, ([one, other]) => {
        expect(addressKey(one)).toBe(addressKey(other))
      }),
    )
  })

  test('differs from one /64 to the next', () => {
    const pairs = fc
      .tuple(network, network, half)
      .filter(([one, other]) => one.join() !== other.join())
      .chain(([one, other, host]) => fc.tuple(spellings([...one, ...host]), spellings([...other, ...host])))
    fc.assert(
      fc.property(pairs, ([one, other]) => {
        expect(addressKey(one)).not.toBe(addressKey(other))
      }),
    )
  })

  test('is an IPv4 address itself, wrapped in IPv6 or not', () => {
    const bytes = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255))
    fc.assert(
      fc.property(bytes, ([a, b, c, d]) => {
        const address = [a, b, c, d].join('.')
        const hexadecimal = `::ffff:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
        for (const wrapped of [`::ffff:${address}`, `::FFFF:${address}`, `0:0:0:0:0:ffff:${address}`, hexadecimal]) {
          expect(addressKey(wrapped)).toBe(address)
        }
        expect(addressKey(address)).toBe(address)
      }),
    )
  })

  test.each([
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['1::', '1:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['64:ff9b::203.0.113.9', '64:ff9b:0:0::/64'],
    ['1:2:3::5:6:203.0.113.9', '1:2:3:0::/64'],
  ])('of %s is %s', (address, key) => {
    expect(addressKey(address)).toBe(key)
  })
})
