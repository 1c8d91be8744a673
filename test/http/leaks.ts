import { isDeepStrictEqual } from 'node:util'
import type { Totp } from 'totp-kit'
import type { Notification } from 'totp-kit/mail'
import { expect } from 'vitest'

/** Members of bodies that hold a secret, a code or a token, whichever way they travel. */
const SECRET_MEMBERS = new Set([
  'secret',
  'backup_codes',
  'access',
  'refresh',
  'token',
  'totp_challenge_token',
  'trusted_device',
  'enrollment_token',
  'input_code',
  'otp_code',
  'backup_code',
  'password',
])

/** Collects what is secret, and everything that must hold none of it. */
export class LeakScan {
  private readonly secrets = new Set<string>()
  private readonly heard: string[] = []

  /** Hears every event there is. */
  constructor(totp: Totp, encryptionKey: string) {
    this.secrets.add(encryptionKey)
    totp.on('*', (event) => this.hear(`event ${JSON.stringify(event)}`))
  }

  /** A body that was sent or answered: its secrets are to be found nowhere else. */
  learn(body: unknown): void {
    if (typeof body !== 'object' || body === null) return
    for (const [name, value] of Object.entries(body)) {
      if (SECRET_MEMBERS.has(name)) this.keep(value)
      else this.learn(value)
    }
  }

  /** A mail: what its link holds is secret too, outside that mail. */
  mailed(notice: Notification): void {
    if ('url' in notice) {
      this.keep(new URLSearchParams(new URL(notice.url).hash.slice(1)).get('token'))
      const { url: _, ...rest } = notice
      this.hear(`mail ${JSON.stringify(rest)}`)
    } else {
      this.hear(`mail ${JSON.stringify(notice)}`)
    }
  }

  /** Something that must hold nothing secret: a log, an error with its causes, a dump of the database. */
  hear(text: string): void {
    this.heard.push(text)
  }

  expectNothingLeaked(): void {
    const found = [...this.secrets].flatMap((secret) => {
      const pattern = patternOf(secret)
      return this.heard.filter((text) => pattern.test(text)).map((text) => `${secret} in ${text.slice(0, 200)}`)
    })
    expect(found).toEqual([])
  }

  /** How much was looked for in how much: a scan of nothing finds nothing. */
  get size(): { secrets: number; texts: number } {
    return { secrets: this.secrets.size, texts: this.heard.length }
  }

  private keep(value: unknown): void {
    if (Array.isArray(value))
      for (const one of value) this.keep(isDeepStrictEqual(one, null) ? null : (one?.code ?? one))
    // Shorter ones are no code of ours; by chance they stand anywhere.
    else if (typeof value === 'string' && /^[\w=.-]{6,}$/.test(value) && !COMMON.has(value)) this.secrets.add(value)
  }
}

/** What tests send in the place of a secret: names, not secrets. */
const COMMON = new Set(['not-a-token', 'no-such-id', '123456', '000000'])

/** As it is written, and without hyphens; digits only where no digit stands beside: a time is no code. */
function patternOf(secret: string): RegExp {
  const plain = secret.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  if (/^\d+$/.test(secret)) return new RegExp(`(?<![\\d.])${plain}(?!\\d)`)
  return new RegExp(/^[\w]{4}(-[\w]{4})+$/.test(secret) ? `${plain}|${plain.replaceAll('-', '')}` : plain)
}
