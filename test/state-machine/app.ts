import { createHmac } from 'node:crypto'

const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
export const STEP = 30

/** An authenticator app of the tests' own: RFC 4226 §5.3 and RFC 6238 §4.2 in a few lines, with nothing of `src/`. */
export class App {
  private readonly key: Buffer
  private readonly codes = new Map<number, string>()
  /** How far the phone's clock is ahead, in seconds. */
  offset = 0

  constructor(uri: string) {
    const secret = new URL(uri).searchParams.get('secret') ?? ''
    const bits = [...secret].map((letter) => BASE32.indexOf(letter).toString(2).padStart(5, '0')).join('')
    this.key = Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)))
  }

  /** On the screen at the moment `at`, by a clock that is right. */
  codeAt(at: number): string {
    return this.codeOf(Math.floor(at / STEP))
  }

  codeOf(step: number): string {
    const known = this.codes.get(step)
    if (known !== undefined) return known
    const counter = Buffer.alloc(8)
    counter.writeBigInt64BE(BigInt(step))
    const hash = createHmac('sha1', this.key).update(counter).digest()
    const from = (hash[19] as number) & 15
    const code = String((hash.readUInt32BE(from) & 0x7fffffff) % 1_000_000).padStart(6, '0')
    if (this.codes.size > 500) this.codes.clear()
    this.codes.set(step, code)
    return code
  }
}
