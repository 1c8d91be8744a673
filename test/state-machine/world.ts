import assert from 'node:assert/strict'
import { createTotp, generateFernetKey, type Totp } from 'totp-kit'
import { type JwtTokens, jwtTokens } from 'totp-kit/jwt'
import type { Notice } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { type GivenClock, givenClock, phoneFor } from 'totp-kit/testing'
import { contextOf } from '../../src/flows/context.ts'
import { createHandle, type Handle } from '../../src/http/handle.ts'
import {
  clearFailures,
  fail,
  isBlocked,
  judge,
  type ModelFamily,
  type ModelPhone,
  type ModelSession,
  type ModelToken,
  type ModelUser,
  raise,
  STEP,
  spend,
  succeed,
} from './model.ts'

/** One step: which call, and the numbers by which it chooses among what there is. */
export interface Move {
  act: number
  who: number
  pick: number
  other: number
  isTwice: boolean
}

interface Reply {
  status: number
  body: Record<string, unknown>
}

const MOST_AUTHENTICATORS = 2
const FRESH_SECONDS = 300
const CHALLENGE_SECONDS = 120
const PENDING_SECONDS = 15 * 60
const LINK_SECONDS = 3600
const DEVICE_SECONDS = 30 * 86_400
const ACCESS_SECONDS = 300

/**
 * Two users and an attacker who knows both passwords, sees every code and token after its use, and types whatever they
 * have seen into everything. The service is the real one, from the wire inwards; the model says after each answer
 * whether it may have been given.
 */
export class World {
  readonly clock: GivenClock = givenClock(1_800_000_000)
  readonly users: ModelUser[] = ['ann', 'bob'].map((username) => ({
    id: `id of ${username}`,
    username,
    password: `the password of ${username}`,
    email: `${username}@example.com`,
    generation: 0,
    changedAt: 0,
    enabled: false,
    live: [],
    pending: null,
    unusedCodes: new Set(),
    failures: {
      totp: { consecutive: 0, blockedUntil: 0 },
      backup_code: { consecutive: 0, blockedUntil: 0 },
      recovery_password: { consecutive: 0, blockedUntil: 0 },
    },
  }))
  /** By what is presented. */
  readonly challenges = new Map<string, ModelToken>()
  readonly devices = new Map<string, ModelToken & { latest: { token: string } }>()
  readonly links = new Map<string, ModelToken & { uid: string }>()
  readonly sessions: ModelSession[] = []
  readonly families = new Set<ModelFamily & { user: ModelUser }>()
  /** What the attacker has seen. */
  readonly seen: string[] = ['000000', '123456', 'AAAA-AAAA-AAAA-AAAA', 'not-a-token']
  readonly stolenSessions: ModelSession[] = []
  /** Sessions with a second factor, and how often each kind of success came: a run that reaches nothing proves nothing. */
  readonly reached: Record<string, number> = {}

  private later: (() => Promise<void>)[] = []
  private mails: Notice[] = []
  private totp!: Totp
  private tokens!: JwtTokens
  private handle!: Handle

  static async open(): Promise<World> {
    const world = new World()
    const byId = (id: string) => world.users.find((user) => user.id === id) ?? null
    world.totp = (await createTotp({
      issuer: 'Acme',
      encryptionKey: generateFernetKey(),
      store: memoryStore(),
      findUser: byId,
      clock: world.clock.now,
      maxAuthenticators: MOST_AUTHENTICATORS,
      trustedDevices: { days: 30 },
      throttleRate: 'off',
    })) as Totp
    // What is to be done after the answer is done at once after it: the model looks at one thing at a time.
    contextOf(world.totp).later = (work) => void world.later.push(work)
    world.tokens = jwtTokens(world.totp, {
      accessSeconds: ACCESS_SECONDS,
      authenticate: async (username, password) =>
        world.users.find((user) => user.username === username && user.password === password)?.id ?? null,
    })
    const recovery = accountRecovery(world.totp, {
      findAccount: async (email) => {
        const user = world.users.find((user) => user.email === email)
        return user ? { userId: user.id, email } : null
      },
      checkPassword: async (userId, password) => byId(userId)?.password === password,
      send: async (mail) => void world.mails.push(mail),
      pageUrl: 'https://app.example/recover',
      linkSeconds: LINK_SECONDS,
    })
    world.handle = createHandle(world.totp, { jwt: world.tokens, recovery })
    // Both have a second factor when it begins: chance alone would seldom come so far.
    for (const user of world.users) {
      const given = { user, pick: 1, other: 1, isTwice: false }
      await world.logIn(given)
      await world.begin(given)
      await world.confirm(given)
      assert.ok(user.enabled)
    }
    return world
  }

  async call(method: string, path: string, body: object, bearer?: string): Promise<Reply> {
    const reply = await this.handle({
      method,
      path: `/${path}/`,
      mount: '/api',
      header: (name) => (name === 'authorization' && bearer ? `Bearer ${bearer}` : undefined),
      body: { parsed: body },
      clientAddress: () => null,
      caller: async () => {
        const token = await this.tokens.readAuthorization(bearer === undefined ? undefined : `Bearer ${bearer}`)
        return token && { ...token, accountName: 'someone' }
      },
      verified: async () => {},
    })
    for (const work of this.later.splice(0)) await work()
    assert.ok(reply && reply.status < 500, `${method} ${path} answered ${reply?.status}`)
    return { status: reply.status, body: reply.body === null ? {} : JSON.parse(reply.body) }
  }

  /** One move, and what the model has to say of its answers. */
  async move({ act, who, pick, other, isTwice }: Move): Promise<void> {
    const user = this.users[who % this.users.length] as ModelUser
    const isAttacker = who % 4 >= 2
    const acts = isAttacker ? this.attacks : this.deeds
    await (acts[act % acts.length] as Deed).call(this, { user, pick, other, isTwice })
  }

  private get now(): number {
    return this.clock.now()
  }

  private get deeds(): Deed[] {
    return [
      this.wait,
      this.wait,
      this.logIn,
      this.logIn,
      this.answer,
      this.answer,
      this.answer,
      this.begin,
      this.confirm,
      this.confirm,
      this.change,
      this.change,
      this.refresh,
      this.logInOnDevice,
      this.askForLink,
      this.recover,
      this.tellOfNewPassword,
      this.verify,
    ]
  }

  private get attacks(): Deed[] {
    return [this.wait, this.attackChallenge, this.attackChallenge, this.attackSession, this.attackTokens, this.logIn]
  }

  private async wait({ pick }: Given): Promise<void> {
    this.clock.advance([1, 7, 29, 30, 30, 31, 31, 45, 60, pick > 80 ? 1000 : 130][pick % 10] as number)
  }

  /** With the password, which the attacker knows too. */
  private async logIn({ user, pick }: Given, trusted_device?: string): Promise<Reply> {
    const { username, password } = user
    const body = { username, password, ...(trusted_device === undefined ? {} : { trusted_device }) }
    const reply = await this.call('POST', 'jwt/create', body)
    assert.equal(reply.status, 200)
    const device = trusted_device === undefined ? undefined : this.devices.get(trusted_device)
    const isTrusted = device !== undefined && this.isGood(device) && device.user === user
    if (device !== undefined && device.user === user) {
      // A token is spent by being shown; a spent one ends its device, whoever shows it.
      if (isTrusted) device.dead = true
      else this.killDevice(device)
    }
    if (reply.body.is_totp_enabled === true) {
      assert.ok(user.enabled, 'a challenge for a user without a second factor')
      assert.ok(!isTrusted, 'a trusted device was asked for a code')
      const token = String(reply.body.totp_challenge_token)
      const { generation } = user
      this.challenges.set(token, { user, generation, expiresAt: this.now + CHALLENGE_SECONDS, dead: false })
      if (pick % 3 === 0) this.seen.push(token)
      return reply
    }
    assert.ok(!user.enabled || isTrusted, 'a session without the second factor')
    this.begun(user, reply, null)
    if (isTrusted) this.keepDevice(user, reply, device.expiresAt, device.latest)
    return reply
  }

  private async answer({ user, pick, other, isTwice }: Given): Promise<void> {
    if (user.enabled && pick % 4 > 0) await this.logIn({ user, pick, other, isTwice: false })
    const open = [...this.challenges].filter(([, challenge]) => challenge.user === user)
    const [token, challenge] = open[open.length - 1 - (pick % 2)] ?? open[open.length - 1] ?? []
    if (token === undefined || challenge === undefined) return
    const typed = this.typedBy(user, other)
    const body = { totp_challenge_token: token, ...typed, ...(pick % 3 === 0 ? { trust_device: true } : {}) }
    await this.present(body, challenge, typed, isTwice)
  }

  /** Sends an answer to a challenge, once or twice at the same time, and holds it to the model. */
  private async present(
    body: object,
    challenge: ModelToken | undefined,
    typed: Typed,
    isTwice: boolean,
  ): Promise<void> {
    const send = () => this.call('POST', 'jwt/totp/verify', body)
    const replies = await Promise.all(isTwice ? [send(), send()] : [send()])
    const good = replies.filter(({ status }) => status === 200)
    const judged = replies.filter(({ body }) => body.code === 'invalid_code' || body.code === 'code_already_used')
    assert.ok(good.length <= 1, 'one code or challenge opened two sessions')
    if (!challenge || !this.isGood(challenge)) {
      for (const { body } of replies) assert.equal(body.code, 'challenge_invalid')
      return
    }
    const { user } = challenge
    const kind = kindOf(typed)
    const wasBlocked = isBlocked(user, kind, this.now)
    const isRight = this.useUp(user, typed, good.length > 0, wasBlocked)
    if (good.length === 1) {
      assert.ok(!wasBlocked, 'a code was judged while its user had to wait')
      assert.ok(isRight, `a session for ${user.username} with a wrong or spent code`)
      challenge.dead = true
      succeed(user, kind)
      this.begun(user, good[0] as Reply, 'by both factors')
      this.count(kind)
      const device = (good[0] as Reply).body.trusted_device
      if (device !== undefined) this.keepDevice(user, good[0] as Reply, this.now + DEVICE_SECONDS, null)
    } else {
      assert.ok(
        !isRight || wasBlocked,
        `a good ${kind} of ${user.username} was refused: ${replies.map(({ body }) => body.code)}`,
      )
    }
    // Of two at once the loser may be judged after the winner, who has given everything back.
    for (const _ of judged) fail(user, kind, this.now)
  }

  /** A proof in a session: changes nothing but what is spent. */
  private async verify({ user, pick, other, isTwice }: Given): Promise<void> {
    const session = this.sessionOf(user, pick)
    if (session === undefined) return
    const typed = this.typedBy(user, other)
    const send = () => this.call('POST', 'totp/verify', typed, session.access)
    const replies = await Promise.all(isTwice ? [send(), send()] : [send()])
    this.holdCode(session, typed, replies, 'verify')
  }

  /** Whether answers to a code in a session are as they must be. @returns whether one succeeded */
  private holdCode(session: ModelSession, typed: Typed, replies: Reply[], what: string): boolean {
    const { user } = session
    const good = replies.filter(({ status }) => status < 300)
    assert.ok(good.length <= 1, `${what}: one code worked twice`)
    if (session.accessExpiresAt <= this.now || !user.enabled) {
      assert.equal(good.length, 0)
      return false
    }
    const kind = kindOf(typed)
    const judged = replies.filter(({ body }) => body.code === 'invalid_code' || body.code === 'code_already_used')
    const wasBlocked = isBlocked(user, kind, this.now)
    const isRight = this.useUp(user, typed, good.length > 0, wasBlocked)
    if (good.length === 1) {
      assert.ok(isRight && !wasBlocked, `${what} with a wrong or spent code`)
      succeed(user, kind)
      this.count(what)
    } else {
      assert.ok(!isRight || wasBlocked, `${what}: a good ${kind} was refused`)
    }
    for (const _ of judged) fail(user, kind, this.now)
    return good.length === 1
  }

  private async begin({ user, pick, other }: Given): Promise<void> {
    const session = this.sessionOf(user, pick)
    if (session === undefined) return
    const name = `phone ${this.clock.now()} ${other}`
    const typed = pick % 2 === 0 ? this.typedBy(user, other) : null
    const body = { name, ...(typed ? { input_code: codeIn(typed) } : {}) }
    const reply = await this.call('POST', 'totp/create', body, session.access)
    if (!this.holdStepUp(session, typed, reply, 'begin')) return
    const phone = phoneFor(String(reply.body.uri))
    const pending = { name, phone, lastStep: -1, drift: 0, far: null, expiresAt: this.now + PENDING_SECONDS }
    user.pending = pending
    assert.equal(reply.status, 201)
  }

  private async confirm({ user, pick, other, isTwice }: Given): Promise<void> {
    const session = this.sessionOf(user, pick)
    if (session === undefined || user.pending === null) return
    const { pending } = user
    const code = other % 5 === 0 ? (this.seen[pick % this.seen.length] as string) : this.codeOf(pending, other)
    const send = () => this.call('POST', 'totp/confirm', { input_code: code }, session.access)
    const replies = await Promise.all(isTwice ? [send(), send()] : [send()])
    const good = replies.filter(({ status }) => status === 200)
    assert.ok(good.length <= 1, 'one pending enrolment was confirmed twice')
    if (session.accessExpiresAt <= this.now || pending.expiresAt <= this.now) {
      assert.equal(good.length, 0)
      return
    }
    const wasBlocked = isBlocked(user, 'totp', this.now)
    const right = wasBlocked ? null : judge([pending], code, this.now)
    const judged = replies.filter(({ body }) => body.code === 'invalid_code')
    if (good.length === 0) {
      assert.ok(right === null, 'a right code did not confirm')
      for (const _ of judged) fail(user, 'totp', this.now)
      return
    }
    assert.ok(right !== null && !wasBlocked, 'a wrong code confirmed an enrolment')
    spend({ phone: pending, step: right.step }, this.now)
    this.seen.push(code)
    user.pending = null
    pending.far = null
    await this.live(user, pending)
    const { backup_codes } = (good[0] as Reply).body as { backup_codes: string[] | null }
    assert.equal(backup_codes === null, user.enabled, 'backup codes are handed out with the first authenticator')
    if (backup_codes) user.unusedCodes = new Set(backup_codes)
    user.enabled = true
    succeed(user, 'totp')
    this.raise(user, session.family)
    this.count('confirm')
  }

  /** Which authenticators are live after one was added, as the service says; never fewer, never more than may be. */
  private async live(user: ModelUser, added: ModelPhone): Promise<void> {
    const { authenticators } = await this.totp.getStatus(user.id)
    const before = user.live
    user.live = [...before, added].filter(({ name }) => authenticators.some((listed) => listed.name === name))
    assert.equal(authenticators.length, Math.min(MOST_AUTHENTICATORS, before.length + 1))
    assert.equal(user.live.length, authenticators.length)
    assert.ok(user.live.includes(added))
  }

  /** Disabling, new backup codes, looking at them, removing an authenticator or device: all need step-up. */
  private async change({ user, pick, other }: Given): Promise<void> {
    const session = this.sessionOf(user, pick)
    if (session === undefined) return
    const typed = other % 2 === 0 ? this.typedBy(user, other) : null
    const body = typed ? { input_code: codeIn(typed) } : {}
    switch ([0, 1, 1, 2, 2, 3, 3][pick % 7]) {
      case 0: {
        const reply = await this.call('POST', 'totp/disable', body, session.access)
        const wasEnabled = user.enabled
        if (!this.holdStepUp(session, typed, reply, 'disable')) return
        if (reply.status !== 204) return
        user.pending = null
        if (!wasEnabled) return
        Object.assign(user, { enabled: false, live: [], unusedCodes: new Set() })
        clearFailures(user)
        this.raise(user, session.family)
        return
      }
      case 1: {
        const reply = await this.call('POST', 'totp/rotate_backup_codes', body, session.access)
        if (!this.holdStepUp(session, typed, reply, 'rotate') || reply.status !== 200) return
        user.unusedCodes = new Set(reply.body.backup_codes as string[])
        return
      }
      case 2: {
        const reply = await this.call('GET', 'totp/backup_codes', {}, session.access)
        if (!this.holdStepUp(session, null, reply, 'view') || reply.status !== 200) return
        const codes = reply.body.backup_codes as { code: string; used_at: string | null }[]
        const unused = codes.filter(({ used_at }) => used_at === null).map(({ code }) => code)
        assert.deepEqual(new Set(unused), user.unusedCodes)
        return
      }
      default: {
        const { authenticators } = await this.totp.getStatus(user.id)
        const target = authenticators[other % Math.max(1, authenticators.length)]
        const path = `totp/authenticators/${target?.id ?? 'none'}`
        const reply = await this.call('DELETE', path, body, session.access)
        if (!this.holdStepUp(session, typed, reply, 'remove') || reply.status !== 204) return
        assert.ok(user.live.length > 1, 'the last authenticator was removed')
        user.live = user.live.filter(({ name }) => name !== target?.name)
        this.raise(user, session.family)
      }
    }
  }

  /** @returns whether the caller had leave: for the rest of the answer to be looked at */
  private holdStepUp(session: ModelSession, typed: Typed | null, reply: Reply, what: string): boolean {
    const { user } = session
    const code = String(reply.body.code)
    if (session.accessExpiresAt <= this.now) {
      assert.equal(code, 'unauthenticated')
      return false
    }
    if (!user.enabled) return reply.status < 300
    if (typed !== null) {
      const taken = reply.status < 300 || ['validation_failed', 'not_found', 'totp_not_set_up'].includes(code)
      return this.holdCode(session, byShape(codeIn(typed)), [taken ? { status: 200, body: {} } : reply], what)
    }
    const { verifiedAt, generation } = session
    const isFresh = verifiedAt !== null && generation === user.generation && verifiedAt >= this.now - FRESH_SECONDS
    assert.equal(code === 'step_up_required', !isFresh, `${what} without a fresh factor: ${reply.status} ${code}`)
    if (isFresh) this.count(what)
    return isFresh
  }

  private async refresh({ user, pick, isTwice }: Given): Promise<void> {
    const own = this.sessions.filter((session) => session.user === user)
    const session = own[own.length - 1 - (pick % 3)] ?? own[own.length - 1]
    if (session) await this.presentRefresh(session.refresh, isTwice)
  }

  private async presentRefresh(token: string, isTwice: boolean): Promise<void> {
    const session = this.sessions.find(({ refresh }) => refresh === token)
    const send = () => this.call('POST', 'jwt/refresh', { refresh: token })
    const replies = await Promise.all(isTwice ? [send(), send()] : [send()])
    const good = replies.filter(({ status }) => status === 200)
    assert.ok(good.length <= 1, 'a refresh token worked twice')
    if (session === undefined) {
      assert.equal(good.length, 0)
      return
    }
    const { family, user } = session
    const isGood = family.alive && family.generation === user.generation && family.living === token
    assert.equal(good.length === 1, isGood, 'a refresh token lives as long as its family says')
    this.seen.push(token)
    if (!isGood || isTwice) family.alive = false
    if (good.length === 0) return
    const { access, refresh } = (good[0] as Reply).body as { access: string; refresh: string }
    family.living = refresh
    const { generation } = user
    this.sessions.push({ ...session, access, refresh, generation, accessExpiresAt: this.now + ACCESS_SECONDS })
    this.count('refresh')
  }

  private async logInOnDevice(given: Given): Promise<void> {
    const own = [...this.devices].filter(([, device]) => device.user === given.user)
    const [token] = own[own.length - 1 - (given.pick % 2)] ?? own[own.length - 1] ?? []
    if (token === undefined) return
    const reply = await this.logIn(given, token)
    this.seen.push(token)
    if (reply.body.is_totp_enabled === false && given.user.enabled) this.count('trusted device')
  }

  private async askForLink({ user }: Given): Promise<void> {
    const reply = await this.call('POST', 'totp/recovery', { email: user.email })
    assert.equal(reply.status, 200)
    for (const mail of this.mails.splice(0)) {
      assert.ok(user.enabled, 'a recovery mail for a user without a second factor')
      assert.ok('url' in mail && mail.to === user.email)
      const said = new URLSearchParams(new URL(mail.url).hash.slice(1))
      const { generation } = user
      const expiresAt = this.now + LINK_SECONDS
      this.links.set(String(said.get('token')), {
        user,
        generation,
        expiresAt,
        dead: false,
        uid: String(said.get('uid')),
      })
    }
  }

  private async recover({ user, pick, other, isTwice }: Given): Promise<void> {
    const own = [...this.links].filter(([, link]) => link.user === user)
    const [token, link] = own[own.length - 1 - (pick % 2)] ?? own[own.length - 1] ?? []
    if (token === undefined || link === undefined) return
    const isGood = this.isGood(link)
    if (other % 4 === 0) {
      const reply = await this.call('POST', 'totp/recovery_cancel', { uid: link.uid, token })
      assert.equal(reply.status === 204, isGood)
      if (isGood) {
        this.raise(user, null)
        succeed(user, 'recovery_password')
      }
      link.dead = true
      this.seen.push(token)
      return
    }
    const password = other % 4 < 3 ? 'a wrong password' : user.password
    await this.presentLink(token, link.uid, password, isTwice)
  }

  private async presentLink(token: string, uid: string, password: string, isTwice: boolean): Promise<void> {
    const send = () => this.call('POST', 'totp/recovery_confirm', { uid, token, password })
    const replies = await Promise.all(isTwice ? [send(), send()] : [send()])
    const good = replies.filter(({ status }) => status === 204)
    assert.ok(good.length <= 1, 'a recovery link worked twice')
    const link = this.links.get(token)
    const isGood = link !== undefined && this.isGood(link) && link.uid === uid
    if (!isGood) {
      for (const { body } of replies) assert.equal(body.code, 'recovery_link_invalid')
      return
    }
    const { user } = link
    const wasBlocked = isBlocked(user, 'recovery_password', this.now)
    assert.equal(good.length === 1, password === user.password && !wasBlocked)
    for (const { body } of replies) {
      if (body.code === 'invalid_credentials') fail(user, 'recovery_password', this.now)
    }
    if (good.length === 0) return
    link.dead = true
    this.seen.push(token)
    Object.assign(user, { enabled: false, live: [], pending: null, unusedCodes: new Set() })
    clearFailures(user)
    this.raise(user, null)
    this.count('recovery')
  }

  private async tellOfNewPassword({ user, pick }: Given): Promise<void> {
    if (pick % 9 !== 0) return
    await this.totp.credentialsChanged(user.id)
    this.raise(user, null)
    succeed(user, 'recovery_password')
  }

  /** Everything seen, against every open challenge, also another user's. */
  private async attackChallenge({ user, pick, other, isTwice }: Given): Promise<void> {
    const open = [...this.challenges.keys()]
    const own = await this.logIn({ user, pick: 1, other, isTwice: false })
    const candidates = [String(own.body.totp_challenge_token ?? 'none'), ...open, ...this.seen]
    const token = candidates[(pick % 2) * (other % candidates.length)] as string
    const value = this.seen[(pick * 31 + other) % this.seen.length] as string
    const typed: Typed = pick % 3 === 0 ? { backup_code: value } : { otp_code: value }
    if (value.length > 64) return
    await this.present({ totp_challenge_token: token, ...typed }, this.challenges.get(token), typed, isTwice)
  }

  /** A session that was opened with the password alone, or stolen: it must not change anything. */
  private async attackSession(given: Given): Promise<void> {
    const { user, pick, other } = given
    const stolen = this.sessions.filter((session) => session.user === user && session.verifiedAt === null)
    const session = stolen[pick % Math.max(1, stolen.length)]
    if (session === undefined) return
    const value = this.seen[other % this.seen.length] as string
    if (value.length > 64) return
    const typed = byShape(value)
    const paths = ['totp/disable', 'totp/rotate_backup_codes', 'totp/create'] as const
    const path = paths[pick % paths.length] as string
    if (!user.enabled) return
    const reply = await this.call('POST', path, { input_code: value }, session.access)
    assert.ok(!this.holdStepUp(session, typed, reply, path), `the attacker got ${path} done`)
  }

  /** Tokens of every kind, where they do not belong. */
  private async attackTokens({ user, pick, other }: Given): Promise<void> {
    const kinds = [...this.seen, ...this.challenges.keys(), ...this.links.keys()]
    const token = kinds[(pick * 17 + other) % kinds.length] as string
    const uid = Buffer.from(user.id).toString('base64url')
    switch (pick % 4) {
      case 0:
        if (!this.sessions.some(({ refresh }) => refresh === token)) await this.presentRefresh(token, false)
        return
      case 1:
        if (!this.devices.has(token)) await this.logIn({ user, pick: 1, other, isTwice: false }, token)
        return
      case 2:
        if (!this.links.has(token)) await this.presentLink(token, uid, user.password, false)
        return
      default: {
        const reply = await this.call('GET', 'totp/status', {}, token)
        assert.equal(reply.body.code, 'unauthenticated')
      }
    }
  }

  /** A code as its owner types it: mostly right, sometimes mistyped, spent, or from a phone with a wrong clock. */
  private typedBy(user: ModelUser, other: number): Typed {
    const unused = [...user.unusedCodes]
    if (other % 7 === 0 && unused.length > 0) return { backup_code: unused[other % unused.length] as string }
    if (other % 11 === 0) return { backup_code: this.seen[other % this.seen.length]?.slice(0, 64) ?? '' }
    const phone = user.live[other % Math.max(1, user.live.length)]
    return { otp_code: phone ? this.codeOf(phone, other) : '424242' }
  }

  private codeOf({ phone }: ModelPhone, other: number): string {
    const offset = [0, 0, 0, 0, -STEP, STEP, -2 * STEP, 4 * STEP, -20 * STEP][other % 9] as number
    return other % 13 === 0 ? '135790' : phone.codeAt(this.now + offset)
  }

  /** Whether the code is good by the model; what was good and taken is used up, and the attacker has seen it. */
  private useUp(user: ModelUser, typed: Typed, wasTaken: boolean, wasBlocked: boolean): boolean {
    const code = codeIn(typed)
    if (wasBlocked) return false
    if ('backup_code' in typed) {
      const own = [...user.unusedCodes].find((unused) => plain(unused) === plain(code))
      if (own === undefined || !wasTaken) return own !== undefined
      user.unusedCodes.delete(own)
      this.seen.push(code)
      return true
    }
    const right = judge(user.live, code, this.now)
    if (right === null || right.step <= right.phone.lastStep) return false
    if (wasTaken) spend(right, this.now)
    if (wasTaken) this.seen.push(code)
    return true
  }

  private isGood({ user, generation, expiresAt, dead }: ModelToken): boolean {
    return !dead && generation === user.generation && this.now <= expiresAt && user.enabled
  }

  private begun(user: ModelUser, { body }: Reply, proved: 'by both factors' | null): void {
    const { access, refresh } = body as { access: string; refresh: string }
    const { generation, changedAt } = user
    const family = { user, generation, alive: true, living: refresh }
    const verifiedAt = proved && Math.max(this.now, changedAt)
    const accessExpiresAt = this.now + ACCESS_SECONDS
    this.families.add(family)
    this.sessions.push({ user, access, refresh, family, verifiedAt, generation, accessExpiresAt })
  }

  private keepDevice(user: ModelUser, { body }: Reply, expiresAt: number, latest: { token: string } | null): void {
    const token = String(body.trusted_device)
    const chain = latest ?? { token }
    chain.token = token
    this.devices.set(token, { user, generation: user.generation, expiresAt, dead: false, latest: chain })
  }

  private killDevice({ latest }: { latest: { token: string } }): void {
    for (const device of this.devices.values()) if (device.latest === latest) device.dead = true
  }

  private raise(user: ModelUser, kept: ModelFamily | null): void {
    raise(user, this.now, this.families, kept)
  }

  private sessionOf(user: ModelUser, pick: number): ModelSession | undefined {
    const own = this.sessions.filter((session) => session.user === user)
    return own[own.length - 1 - (pick % 3)] ?? own[own.length - 1]
  }

  private count(what: string): void {
    this.reached[what] = (this.reached[what] ?? 0) + 1
  }
}

interface Given {
  user: ModelUser
  pick: number
  other: number
  isTwice: boolean
}

type Deed = (this: World, given: Given) => Promise<unknown>
type Typed = { otp_code: string } | { backup_code: string }

const codeIn = (typed: Typed) => ('otp_code' in typed ? typed.otp_code : typed.backup_code)
const kindOf = (typed: Typed) => ('otp_code' in typed ? 'totp' : 'backup_code')
/** A field open to both kinds tells them apart by their shape. */
const byShape = (code: string): Typed => (/^[0-9]{1,8}$/.test(plain(code)) ? { otp_code: code } : { backup_code: code })
const plain = (code: string) => code.replace(/[\s-]/g, '').toUpperCase()
