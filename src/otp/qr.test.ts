import { Resvg } from '@resvg/resvg-js'
import fc from 'fast-check'
import jsqr from 'jsqr'
import { describe, expect, test } from 'vitest'
import { keyUri } from './key-uri.ts'
import { qrSvg } from './qr.ts'

const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ'
const standard = { secret, algorithm: 'SHA1', digits: 6, periodSeconds: 30 } as const
const usual = keyUri({ ...standard, issuer: 'Example', accountName: 'alice@example.com' })
const longest = usual + 'x'.repeat(700 - usual.length)

describe('a reader finds the text again, letter by letter', () => {
  test.each([
    ['a usual account', 'Example', 'alice@example.com'],
    ['spaces', 'Big Corp Ltd', 'Alice B. Carol'],
    ['ampersands', 'Smith & Sons', 'a&b'],
    ['a plus', 'C++ Club', 'alice+2fa@example.com'],
    ['slashes', 'dev/prod', 'team/alice'],
    ['per cent signs', '100%', '%41%20'],
    ['quotes', `"Example" 'Inc'`, `o'neil "al"`],
    ['emoji', '🔐 Vault', '👩🏽‍💻@example.com'],
    ['Chinese, Japanese, Korean', '日本語テスト', '한국어 中文'],
    ['right-to-left text', 'مثال', 'שלום@example.com'],
    ['markup', '<b>&amp;</b>', '</svg><script>'],
  ])('%s', (_what, issuer, accountName) => {
    const uri = keyUri({ ...standard, issuer, accountName })

    expect(readQr(qrSvg(uri))).toBe(uri)
  })

  test('of any issuer and account', () => {
    const names = fc
      .oneof(
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 6 }),
        fc.string({ unit: fc.constantFrom(...` &+/%"'éж日🔐ש`), minLength: 1, maxLength: 8 }),
      )
      .filter((name) => name.trim() !== '' && !/[:\p{Cc}]/u.test(name) && encodeURIComponent(name).length <= 120)
    fc.assert(
      fc.property(names, names, (issuer, accountName) => {
        const uri = keyUri({ ...standard, issuer, accountName })

        expect(readQr(qrSvg(uri))).toBe(uri)
      }),
      { numRuns: 25 },
    )
  })

  test('of the longest key URI, on version 21 (101 modules)', () => {
    const svg = qrSvg(longest)

    expect(readQr(svg)).toBe(longest)
    expect(sizeOf(svg)).toBe(101 + 8)
  })
})

describe.each([
  ['a usual key URI', usual],
  ['the longest key URI', longest],
])('the picture of %s', (_what, text) => {
  test('is black and white and nowhere transparent, so that dark mode does not shine through', () => {
    const { pixels } = rasterOf(qrSvg(text))

    const colors = new Set(pixels.map((pixel) => pixel.join()))

    expect(colors).toEqual(new Set(['0,0,0,255', '255,255,255,255']))
  })

  test('has a quiet zone of four light modules on each side, and begins right after it', () => {
    const { size, isDark } = rasterOf(qrSvg(text))

    const all = Array.from({ length: size }, (_, index) => index)
    const darkColumns = all.filter((x) => all.some((y) => isDark(x, y)))
    const darkRows = all.filter((y) => all.some((x) => isDark(x, y)))

    expect([darkColumns.at(0), darkColumns.at(-1)]).toEqual([4, size - 5])
    expect([darkRows.at(0), darkRows.at(-1)]).toEqual([4, size - 5])
    expect((size - 8 - 17) % 4).toBe(0)
  })

  test('is at level M: the first two bits of the format are 00, under the mask 10 (ISO/IEC 18004 §7.9)', () => {
    const { isDark } = rasterOf(qrSvg(text))

    expect([isDark(4, 4 + 8), isDark(5, 4 + 8)]).toEqual([true, false])
  })
})

test('the picture of a usual key URI is smaller than 4 kB', () => {
  expect(Buffer.byteLength(qrSvg(usual))).toBeLessThan(4096)
})

test('the picture does not hold the text: nothing of a name is markup, and the secret is not in the page twice', () => {
  const uri = keyUri({ ...standard, issuer: '<script>', accountName: '"&' })

  expect(qrSvg(uri)).toMatch(
    /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 (\d+) \1" shape-rendering="crispEdges" role="img"><title>QR code<\/title><path fill="#fff" d="M0 0h\1v\1H0z"\/><path stroke="#000" d="M0 \.5[mh0-9 -]+"\/><\/svg>$/,
  )
})

test('no stroke of the picture is empty', () => {
  expect(qrSvg(usual)).not.toMatch(/h0\b/)
})

test('the same text is the same picture', () => {
  expect(qrSvg(usual)).toBe(qrSvg(usual))
})

function sizeOf(svg: string): number {
  return Number(/viewBox="0 0 (\d+) /.exec(svg)?.[1])
}

/** What a phone reads off a screen that shows four pixels for a module. */
function readQr(svg: string): string | undefined {
  const { bytes, width, height } = render(svg, 4)
  return jsqr.default(bytes, width, height)?.data
}

function rasterOf(svg: string) {
  const { bytes, width, height } = render(svg, 1)
  const pixels = Array.from({ length: width * height }, (_, index) => [...bytes.subarray(index * 4, index * 4 + 4)])
  const isDark = (x: number, y: number) => pixels[y * width + x]?.[0] === 0
  return { size: width, isDark, pixels }
}

function render(svg: string, pixelsPerModule: number) {
  const fitTo = { mode: 'zoom', value: pixelsPerModule } as const
  const image = new Resvg(svg, { fitTo, font: { loadSystemFonts: false } }).render()
  return { bytes: new Uint8ClampedArray(image.pixels), width: image.width, height: image.height }
}
