import assert from 'node:assert/strict'
import { createTotp, type Proof, type Totp, TotpError, type TotpStore } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { type JwtTokens, jwtTokens } from 'totp-kit/jwt'
import type { Notification } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import { type FakeClock, fakeClock } from 'totp-kit/testing'
import { contextOf } from '../../src/flows/context.ts'
import { createHandle } from '../../src/http/handle.ts'
import { Host } from './host.ts'
import {
  ACCESS_SECONDS,
  abstractionOf,
  isFresh,
  isGood,
  LINK_SECONDS,
  type ModelChallenge,
  type ModelDevice,
  type ModelFamily,
  type ModelLink,
  type ModelSession,
  type ModelToken,
  type ModelUser,
  newUser,
  opens,
  raise,
} from './model.ts'
import type { Storage } from './storage.ts'

/** What differs from world to world. */
export interface Config {
  seed: number
  steps: number
  /** What the attacker has from the start. Whatever was used, in anybody's sight, they have besides. */
  power: 'nothing' | 'password' | 'mailbox'
  maxAuthenticators: 1 | 2
  codesAre: 'encrypted' | 'hashed'
  delaySeconds: 0 | 600
  /** How far the second process's clock is ahead. */
  skew: 0 | 5
  /** Trusted devices keep their token in a cookie. */
  cookie: boolean
}

export interface Reply {
  status: number
  body: Record<string, unknown>
  /** The token of a trusted device, from wherever it came. */
  device?: string | undefined
}

/** One of the two processes of the service. Both use the same database. */
export interface Process {
  index: number
  keys: string[]
  store: TotpStore
  totp: Totp
  tokens: JwtTokens
  send(request: Wire): Promise<WireReply>
  vault(request: Request): Promise<Response>
  now(): number
}

interface Wire {
  method: string
  path: string
  body: object
  headers: { authorization?: string; cookie?: string }
}

interface WireReply {
  status: number
  cookie: string | null
  text: string
}

export const VAULT_SECONDS = 60
const COOKIE = '__Host-device'
const GUARDED = 'guarded'

/**
 * Three users, a host with sessions, two processes of one service on a real store, and an attacker. The service is the
 * real one, from the Fetch adapter inwards; the model says after each answer whether it may have been given.
 */
export class World {
  readonly clock: FakeClock = fakeClock(1_800_000_000)
  readonly users: ModelUser[]
  readonly processes: Process[] = []
  readonly host = new Host()
  /** By what is presented. */
  readonly challenges = new Map<string, ModelChallenge>()
  readonly enrollments = new Map<string, ModelToken>()
  readonly devices = new Map<string, ModelDevice>()
  readonly links = new Map<string, ModelLink>()
  sessions: ModelSession[] = []
  readonly families = new Set<ModelFamily>()
  /** What the attacker has seen. */
  readonly seen: string[] = ['000000', '123456', 'AAAA-AAAA-AAAA-AAAA', 'not-a-token']
  /** The latest moment that any process has had. */
  highWater = 0
  steps = 0
  answers = 0
  /** The longest that the owner took to come back, by way and by what the attacker had. */
  readonly waits: Record<string, number> = {}
  /** How often each kind of success came: a run that reaches nothing proves nothing. */
  readonly reached: Record<string, number> = {}
  /** Keys in the order of their making, and how far their roll-out has come. */
  readonly keys: string[] = []
  rollOut = 0

  private later: (() => Promise<void>)[] = []
  private mails: Notification[] = []
  private readonly errors: unknown[] = []
  private readonly random: () => number

  readonly config: Config
  readonly storage: Storage

  private constructor(config: Config, storage: Storage) {
    this.config = config
    this.storage = storage
    this.random = generator(config.seed)
    this.users = ['ann', 'bob', 'cyd'].map((username) => newUser(username, config.power === 'password'))
  }

  static async open(config: Config, storage: Storage): Promise<World> {
    const world = new World(config, storage)
    await storage.empty()
    world.keys.push(world.newKey())
    for (const index of [0, 1]) world.processes[index] = await world.start(index, world.keys)
    return world
  }

  /** The service object anew, on the same store. */
  async start(index: number, keys: readonly string[]): Promise<Process> {
    const skew = index === 1 ? this.config.skew : 0
    const now = () => this.clock.now() + skew
    const store = await this.storage.open()
    const door = index === 0 ? 'fetch' : 'plain'
    return { index, store, ...(await this.serviceOn(store, { keys, now, issuer: 'Acme', door })) }
  }

  async restart(process: Process, keys: readonly string[] = process.keys): Promise<void> {
    await process.totp.close()
    this.processes[process.index] = await this.start(process.index, keys)
  }

  async serviceOn(
    store: TotpStore,
    given: { keys: readonly string[]; now: () => number; issuer: string; door: 'fetch' | 'plain' },
  ): Promise<Omit<Process, 'index' | 'store'>> {
    const { issuer, now } = given
    const { config } = this
    const totp = await createTotp<ModelUser>({
      issuer,
      encryptionKey: given.keys,
      store,
      findUser: (id) => this.byId(id),
      enforcement: { required: ({ mustEnroll }) => mustEnroll, accountName: ({ username }) => username },
      clock: now,
      maxAuthenticators: config.maxAuthenticators,
      backupCodes: { storage: config.codesAre },
      trustedDevices: { days: 30, ...(config.cookie ? { cookie: COOKIE } : {}) },
      rateLimit: 'off',
      onError: (error) => void this.errors.push(error),
    })
    const ctx = contextOf(totp)
    // What is to be done after the answer is done at once after it: the model looks at one thing at a time.
    ctx.afterResponse = (work) => void this.later.push(work)
    // A sequence that failed can be run again, to the last code.
    ctx.random = (bytes) => Uint8Array.from({ length: bytes }, () => Math.floor(this.random() * 256))
    this.host.listenTo(totp as Totp<never>)
    const tokens = jwtTokens(totp as Totp, {
      accessTokenSeconds: ACCESS_SECONDS,
      authenticate: async (username, password) =>
        this.users.find((user) => user.username === username && user.password === password)?.id ?? null,
    })
    const recovery = accountRecovery(totp as Totp, {
      findAccount: async (email) => {
        const user = this.users.find(({ emails }) => emails[0] === email)
        return user ? { userId: user.id, email } : null
      },
      addressesOf: async (userId) => this.byId(userId)?.emails ?? [],
      checkPassword: async (userId, password) => this.byId(userId)?.password === password,
      send: async (mail) => void this.mails.push(mail),
      pageUrl: 'https://app.example/recover',
      linkValidSeconds: LINK_SECONDS,
      delaySeconds: config.delaySeconds,
    })
    const callerOf = async (header: string | null) => {
      const ofHost = this.host.callerOf(header)
      if (ofHost) return ofHost
      const token = await tokens.verifyAccessToken(header ?? undefined)
      return token && { ...token, accountName: 'someone' }
    }
    const verified = (proof: Proof, header: string) => {
      const session = this.sessions.find(({ credential }) => credential === header)
      if (session) session.credential = this.host.verified(header, proof)
    }
    const ofRequest = ({ headers }: Request) => headers.get('authorization')
    const caller = (request: Request) => callerOf(ofRequest(request))
    const onVerified = (proof: Proof, request: Request) => verified(proof, ofRequest(request) ?? '')
    const modules = { jwt: tokens, recovery }
    const fetch = fetchTotp(totp as Totp, { ...modules, caller, onVerified, clientAddress: () => null })
    const handle = createHandle<string | undefined>(totp as Totp, {
      ...modules,
      caller: (authorization) => callerOf(authorization ?? null),
      onVerified: (proof, authorization) => verified(proof, authorization ?? ''),
      clientAddress: () => null,
    })
    const byFetch = async ({ method, path, body, headers }: Wire): Promise<WireReply> => {
      const text = method === 'GET' ? null : JSON.stringify(body)
      const sent = { method, headers: { ...headers, 'content-type': 'application/json' }, body: text }
      const response = await fetch(new Request(`https://app.example/api/${path}/`, sent))
      return { status: response.status, cookie: response.headers.get('set-cookie'), text: await response.text() }
    }
    /** As adapters call it: without a `Request` it is a good deal faster. */
    const byHandle = async ({ method, path, body, headers }: Wire): Promise<WireReply> => {
      const request = { method, path: `/${path}/`, basePath: '/api', headers, body: { parsed: body } }
      const reply = await handle(request, headers.authorization)
      assert.ok(reply)
      return { status: reply.status, cookie: reply.headers['set-cookie'] ?? null, text: reply.body ?? '' }
    }
    const send = given.door === 'fetch' ? byFetch : byHandle
    const vault = fetch.require({ maxAgeSeconds: VAULT_SECONDS }, () => new Response(GUARDED))
    return { keys: [...given.keys], totp: totp as Totp, tokens, send, vault, now }
  }

  /** A whole number below `below`, of this world's own chance. */
  chance(below: number): number {
    return Math.floor(this.random() * below)
  }

  /** A key for the service, of this world's own chance. */
  newKey(): string {
    return Buffer.from(Uint8Array.from({ length: 32 }, () => Math.floor(this.random() * 256)))
      .toString('base64url')
      .padEnd(44, '=')
  }

  async call(on: Process, method: string, path: string, body: object, given: Credentials = {}): Promise<Reply> {
    const headers: Wire['headers'] = {}
    if (given.credential !== undefined) headers.authorization = given.credential
    if (given.device !== undefined) headers.cookie = `${COOKIE}=${given.device}`
    const { status, cookie, text } = await on.send({ method, path, body, headers })
    await this.afterwards()
    assert.ok(status < 500, `${method} ${path} answered ${status}: ${this.errors.map(String)}`)
    const said = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    const device = cookie?.match(`${COOKIE}=([^;]+)`)?.[1] ?? (said.trusted_device as string | undefined)
    return { status, body: said, device }
  }

  /** A function of the service, called by the host itself; what it throws reads like an endpoint's refusal. */
  async ask<T extends object>(call: () => Promise<T>): Promise<Reply & { value?: T }> {
    try {
      const value = await call()
      await this.afterwards()
      return { status: 200, body: {}, ...(value ? { value } : {}) }
    } catch (error) {
      await this.afterwards()
      if (!(error instanceof TotpError) || error.code === 'unavailable') throw error
      const { code, challengeToken, retryAfterSeconds } = error
      return {
        status: 400,
        body: { code, totp_challenge_token: challengeToken, retry_after_seconds: retryAfterSeconds },
      }
    }
  }

  /** The host's own guarded route. */
  async openVault(on: Process, session: ModelSession): Promise<boolean> {
    const request = new Request('https://app.example/vault', { headers: { authorization: session.credential } })
    return (await (await on.vault(request)).text()) === GUARDED
  }

  /** Mails that were sent since the last time. */
  mailed(): Notification[] {
    return this.mails.splice(0)
  }

  private async afterwards(): Promise<void> {
    this.answers++
    for (const work of this.later.splice(0)) await work()
    this.highWater = Math.max(this.highWater, ...this.processes.map(({ now }) => now()))
  }

  byId(id: string): ModelUser | null {
    return this.users.find((user) => user.id === id) ?? null
  }

  sessionsOf(user: ModelUser): ModelSession[] {
    return this.sessions.filter((session) => session.user === user && !session.ended)
  }

  /** One of the latest, most often the very latest. */
  sessionOf(user: ModelUser, pick: number): ModelSession | undefined {
    const own = this.sessionsOf(user)
    return own[own.length - 1 - (pick % 4)] ?? own[own.length - 1]
  }

  /** The factors or credentials changed: what was granted for those of before is worth nothing any more. */
  raise(user: ModelUser, now: number, kept: ModelSession | null): void {
    for (const family of this.families) {
      if (family.user !== user) continue
      const isKept = family === kept?.tokens?.family && family.alive && family.generation === user.generation
      if (isKept) family.generation++
      else family.alive = false
    }
    raise(user, now)
    for (const session of this.sessions) {
      if (session.user === user && session.kind === 'stateful' && session !== kept) session.ended = true
    }
    this.holdHostSessions(user)
  }

  /** What the host can end has ended when the service has said so, and nothing else has. */
  holdHostSessions(user: ModelUser): void {
    for (const session of this.sessions) {
      if (session.user !== user || session.kind !== 'stateful') continue
      assert.equal(
        this.host.isAlive(session),
        !session.ended,
        `a session of the host's for ${user.username} ${session.ended ? 'outlives' : 'did not survive'} a change`,
      )
    }
    this.sessions = this.sessions.filter(({ ended }) => !ended)
  }

  /** The host heard of a change that was then rolled back: to end sessions for that is no harm. */
  adoptHostSessions(user: ModelUser): void {
    for (const session of this.sessions) {
      if (session.user === user && session.kind === 'stateful' && !this.host.isAlive(session)) session.ended = true
    }
    this.holdHostSessions(user)
  }

  clearErrors(): void {
    this.errors.length = 0
  }

  async close(): Promise<void> {
    for (const { totp } of this.processes) await totp.close()
  }

  killDevice(chain: ModelDevice['chain']): void {
    for (const device of this.devices.values()) if (device.chain === chain) device.dead = true
  }

  /**
   * The clock was set back. What had expired is forgotten: the store may have deleted it or not, and whoever sets the
   * server's clock chooses that (see the threat model).
   */
  forgetExpired(): void {
    const isOver = ({ expiresAt }: { expiresAt: number }) => expiresAt < this.highWater
    const forgotten = new Set<string>()
    for (const map of [this.challenges, this.enrollments, this.devices, this.links]) {
      for (const [token, known] of map) {
        if (!isOver(known)) continue
        map.delete(token)
        forgotten.add(token)
      }
    }
    for (const family of this.families) if (isOver(family)) this.families.delete(family)
    this.sessions = this.sessions.filter(({ tokens }) => {
      if (tokens === null || this.families.has(tokens.family)) return true
      forgotten.add(tokens.refresh)
      return false
    })
    this.seen.splice(0, this.seen.length, ...this.seen.filter((text) => !forgotten.has(text)))
    for (const user of this.users) {
      if (user.pending && isOver(user.pending)) {
        user.pending = null
        user.mayHavePending = true
      }
      if (user.mails.until < this.highWater) user.mails.isUnsure = true
    }
  }

  /** The state of the model without its names, times and texts. */
  abstraction(): string {
    const now = this.clock.now()
    const users = this.users.map((user) => {
      const tokens = [this.challenges, this.enrollments, this.devices, this.links].map((map) => {
        let [good, over] = [0, 0]
        for (const token of map.values()) {
          if (token.user !== user) continue
          if (isGood(token, now)) good = 1
          else if (opens(token, now)) over = 1
        }
        return `${good}${over}`
      })
      const own = this.sessions.filter((session) => session.user === user)
      const sessions = ['jwt', 'stateful', 'stateless'].map((kind) => {
        const all = own.filter((session) => session.kind === kind)
        return `${Number(all.length > 0)}${Number(all.some((session) => isFresh(session, now)))}`
      })
      const families = own.some(({ tokens }) => tokens?.family.alive)
      return `${abstractionOf(user, now)}|${tokens}|${sessions}|${families}`
    })
    return `${users.join('/')}/${this.config.power}${this.config.maxAuthenticators}/${this.rollOut % 4}/${Math.sign(this.highWater - now - this.config.skew)}`
  }

  count(what: string): void {
    this.reached[what] = (this.reached[what] ?? 0) + 1
  }
}

interface Credentials {
  credential?: string | undefined
  device?: string | undefined
}

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
