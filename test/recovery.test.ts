import { createTotp, generateFernetKey, TotpError, type TotpEvent } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import { type Notification, notifyByMail } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { sqliteStore } from 'totp-kit/store/sqlite'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, expect, onTestFinished, test } from 'vitest'

const NOON = 1_800_000_000
const HOUR = 3600
const PASSWORD = 'correct horse'

interface Link {
  uid: string
  token: string
}

const stores = [
  { name: 'memory', open: async () => memoryStore() },
  { name: 'SQLite', open: () => sqliteStore(':memory:') },
]

describe.each(stores)('$name', ({ open }) => {
  /** Ann and Bob with 2FA, Ann with two addresses; Cid without; Dan, who may not log in any more. */
  async function service({ delaySeconds = 0, lockAfter = 100 } = {}) {
    const clock = fakeClock(NOON)
    const mails: Notification[] = []
    const events: TotpEvent[] = []
    const errors: unknown[] = []
    let passwordsJudged = 0
    const gone = new Set<string>()
    const addresses: Record<string, string[]> = { ann: ['Ann@example.com', 'ann@home.example'] }
    const store = await open()
    onTestFinished(() => store.close())
    const totp = await createTotp({
      issuer: 'Acme',
      encryptionKey: generateFernetKey(),
      // The store stays the test's: `totp.close` waits for what is under way, and everything can go on after it.
      store: { ...store, close: async () => undefined },
      clock: clock.now,
      findUser: (id) => (gone.has(id) ? null : { id }),
      trustedDevices: { days: 30 },
      failures: { lockAfter },
      onError: (error) => void errors.push(error),
    })
    for (const type of ['recovery.requested', 'recovery.refused', 'recovery.confirmed', 'recovery.canceled'] as const) {
      totp.on(type, (event) => void events.push(event))
    }
    const recovery = accountRecovery(totp, {
      async findAccount(email) {
        const [, userId] = /^(ann|bob|cid|dan|x+)@example\.com$/i.exec(email) ?? []
        const id = userId?.toLowerCase()
        return id === undefined ? null : { userId: id, email: addresses[id]?.[0] ?? `${id}@example.com` }
      },
      addressesOf: async (id) => addresses[id] ?? [`${id}@example.com`],
      async checkPassword(_userId, password) {
        passwordsJudged++
        return password === PASSWORD
      },
      send: async (mail) => void mails.push(mail),
      pageUrl: 'https://app.example/recover',
      delaySeconds,
    })
    const enroll = async (id: string) => {
      const { uri } = await totp.createTotpSetup({ id, accountName: `${id}@example.com` })
      const phone = authenticatorFor(uri)
      await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
      return phone
    }
    const phone = await enroll('ann')
    await enroll('bob')
    await enroll('dan')
    gone.add('dan')
    /** The mails of one request, the link first, by the time that nothing is under way any more. */
    const mailsFor = async (email: string) => {
      const before = mails.length
      await recovery.requestRecovery(email)
      await totp.close()
      const sent = mails.slice(before)
      const isLink = ({ kind }: Notification) => kind === 'recovery_link'
      return [...sent.filter(isLink), ...sent.filter((mail) => !isLink(mail))]
    }
    const linkFor = async (email: string) => linkIn((await mailsFor(email))[0])
    /** The links to a user's two addresses. */
    const linksOf = async (id: string): Promise<[Link, Link]> => {
      addresses[id] = [`${id}@example.com`, `${id}@home.example`]
      const [own, other] = await mailsFor(`${id}@example.com`)
      return [linkIn(own), linkIn(other)]
    }
    const confirm = (link: Link, password = PASSWORD) => outcome(recovery.confirmRecovery({ ...link, password }))
    const cancel = (link: Link) => outcome(recovery.cancelRecovery(link))
    return {
      totp,
      recovery,
      clock,
      mails,
      events,
      errors,
      gone,
      phone,
      enroll,
      mailsFor,
      linkFor,
      linksOf,
      confirm,
      cancel,
      passwordsJudged: () => passwordsJudged,
    }
  }

  test('of ten confirmations at once with the right password exactly one switches 2FA off', async () => {
    const { totp, linkFor, confirm, events } = await service()
    const link = await linkFor('ann@example.com')

    const outcomes = await Promise.all(Array.from({ length: 10 }, () => confirm(link)))

    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(1)
    expect(await totp.isTotpEnabled('ann')).toBe(false)
    expect(await totp.isTotpEnabled('bob')).toBe(true)
    expect(await confirm(link)).toBe('recovery_link_invalid')
    expect(events.filter(({ type }) => type === 'recovery.confirmed')).toEqual([
      { type: 'recovery.confirmed', userId: 'ann', at: NOON },
    ])
  })

  test('a link is good for an hour, to the second', async () => {
    const { totp, clock, linkFor, confirm } = await service()
    const early = await linkFor('ann@example.com')
    clock.advance(1)
    const late = await linkFor('bob@example.com')

    clock.advance(HOUR)

    expect(await confirm(early)).toBe('recovery_link_invalid')
    expect(await confirm(late)).toBe('done')
    expect(await totp.isTotpEnabled('ann')).toBe(true)
  })

  test('with a delay the link is refused before its time, and the refusal says how long to wait', async () => {
    const { totp, clock, mailsFor, confirm, passwordsJudged } = await service({ delaySeconds: 86_400 })
    const [mail] = await mailsFor('ann@example.com')
    expect(mail).toMatchObject({ worksFrom: NOON + 86_400, expiresAt: NOON + 86_400 + HOUR })
    const link = linkIn(mail)

    expect(await confirm(link)).toBe('recovery_link_invalid in 86400')
    clock.advance(86_399)
    expect(await confirm(link)).toBe('recovery_link_invalid in 1')
    expect(passwordsJudged(), 'a password before the time is not judged').toBe(0)
    expect(await totp.isTotpEnabled('ann')).toBe(true)

    clock.advance(1)
    expect(await confirm(link)).toBe('done')
  })

  test('in the meantime the owner can stop it, at the address that asked or at the other', async () => {
    for (const [index, kind] of ['recovery_link', 'recovery_requested'].entries()) {
      const { totp, clock, mailsFor, confirm, cancel, events } = await service({ delaySeconds: 86_400 })
      const sent = await mailsFor('ann@example.com')
      expect(sent.map(({ kind, to }) => `${kind} ${to}`)).toEqual([
        'recovery_link Ann@example.com',
        'recovery_requested ann@home.example',
      ])
      expect(sent[index]?.kind).toBe(kind)

      expect(await cancel(linkIn(sent[index]))).toBe('done')

      clock.advance(86_400)
      expect(await confirm(linkIn(sent[0]))).toBe('recovery_link_invalid')
      expect(await cancel(linkIn(sent[0]))).toBe('recovery_link_invalid')
      expect(await cancel(linkIn(sent[1]))).toBe('recovery_link_invalid')
      expect(await totp.isTotpEnabled('ann')).toBe(true)
      expect(events.map(({ type }) => type)).toContain('recovery.canceled')
    }
  })

  test('who stops it stops all of it: every link that was asked for, and sessions and challenges with them', async () => {
    const { totp, clock, mailsFor, linkFor, confirm, cancel, passwordsJudged } = await service({ delaySeconds: 86_400 })
    const links = [await linkFor('ann@example.com'), await linkFor('ann@example.com')]
    const challenge = await totp.generateChallengeToken('ann')
    const [, other] = await mailsFor('ann@example.com')

    expect(await cancel(linkIn(other))).toBe('done')

    clock.advance(86_400)
    for (const link of links) expect(await confirm(link)).toBe('recovery_link_invalid')
    expect(passwordsJudged()).toBe(0)
    expect(await outcome(totp.verifyChallengeToken(challenge))).toBe('challenge_invalid')
    expect(await totp.isTotpEnabled('ann')).toBe(true)
  })

  test('the link that went to another address stops the recovery, and cannot confirm it', async () => {
    const { totp, mailsFor, confirm, passwordsJudged } = await service()
    const [own, other] = await mailsFor('ann@example.com')

    expect(await confirm(linkIn(other))).toBe('recovery_link_invalid')

    expect(passwordsJudged()).toBe(0)
    expect(await totp.isTotpEnabled('ann')).toBe(true)
    expect(await confirm(linkIn(own))).toBe('done')
  })

  test('of confirmations and cancellations at once exactly one succeeds', async () => {
    const { totp, mailsFor, confirm, cancel } = await service()
    const [own, other] = (await mailsFor('ann@example.com')).map(linkIn) as [Link, Link]

    const outcomes = await Promise.all([
      ...Array.from({ length: 3 }, () => [confirm(own), cancel(own), cancel(other)]).flat(),
    ])

    expect(outcomes.filter((outcome) => outcome === 'done')).toHaveLength(1)
    expect(await totp.isTotpEnabled('ann')).toBe(outcomes.indexOf('done') % 3 !== 0)
  })

  test.each([
    ['a change of the password', ({ totp }: Service) => totp.credentialsChanged('ann')],
    ['a new phone', ({ enroll }: Service) => enroll('ann')],
    ['disabling', ({ totp }: Service) => totp.disableTotp('ann')],
    [
      'disabling and a new enrollment',
      async ({ totp, enroll }: Service) => {
        await totp.disableTotp('ann')
        await enroll('ann')
      },
    ],
  ])('a link dies with %s', async (_name, change) => {
    const running = await service()
    const [own, other] = (await running.mailsFor('ann@example.com')).map(linkIn) as [Link, Link]
    const bobs = await running.linkFor('bob@example.com')

    running.clock.advance(30)
    await change(running)
    const isOn = await running.totp.isTotpEnabled('ann')

    expect(await running.confirm(own)).toBe('recovery_link_invalid')
    expect(await running.cancel(own)).toBe('recovery_link_invalid')
    expect(await running.cancel(other)).toBe('recovery_link_invalid')
    expect(running.passwordsJudged()).toBe(0)
    expect(await running.totp.isTotpEnabled('ann')).toBe(isOn)
    expect(await running.confirm(bobs), 'that of another user lives').toBe('done')
  })

  test('of two links the second is dead once the first was used', async () => {
    const { enroll, clock, linkFor, confirm, totp } = await service()
    const [first, second] = [await linkFor('ann@example.com'), await linkFor('ann@example.com')]
    expect(await confirm(first)).toBe('done')
    clock.advance(30)
    await enroll('ann')

    expect(await confirm(second)).toBe('recovery_link_invalid')

    expect(await totp.isTotpEnabled('ann')).toBe(true)
  })

  test('of 50 wrong passwords at once five are told of; then the right one has to wait as well, unjudged', async () => {
    const { totp, clock, linkFor, confirm, passwordsJudged } = await service()
    const link = await linkFor('ann@example.com')

    const outcomes = await Promise.all(Array.from({ length: 50 }, () => confirm(link, 'wrong horse')))

    expect(outcomes.filter((outcome) => outcome === 'invalid_credentials')).toHaveLength(5)
    expect(outcomes.filter((outcome) => outcome === 'too_many_attempts in 30')).toHaveLength(45)
    const judged = passwordsJudged()
    expect(await confirm(link)).toBe('too_many_attempts in 30')
    clock.advance(29)
    expect(await confirm(link)).toBe('too_many_attempts in 1')
    expect(passwordsJudged()).toBe(judged)
    expect(await totp.isTotpEnabled('ann')).toBe(true)
    clock.advance(1)
    expect(await confirm(link), 'a wrong password does not use the link up').toBe('done')
  })

  test('wrong passwords up to the hard cap lock the recovery, and time does not open it', async () => {
    const { totp, clock, linkFor, confirm, passwordsJudged, events } = await service({ lockAfter: 6 })
    const link = await linkFor('ann@example.com')
    for (let n = 0; n < 5; n++) await confirm(link, 'wrong horse')
    clock.advance(30)
    expect(await confirm(link, 'wrong horse')).toBe('invalid_credentials')
    events.length = 0

    clock.advance(30)
    expect(await confirm(link)).toBe('second_factor_locked')

    expect(passwordsJudged()).toBe(6)
    expect(events).toEqual([{ type: 'recovery.refused', userId: 'ann', code: 'second_factor_locked', at: clock.now() }])
    expect(await totp.isTotpEnabled('ann')).toBe(true)
  })

  test('each step is announced, and each refusal of a link that was ours', async () => {
    const { clock, linkFor, confirm, cancel, events, gone } = await service({ delaySeconds: 60 })
    const link = await linkFor('ann@example.com')
    await confirm(link)
    clock.advance(60)
    gone.add('ann')
    await confirm(link)
    gone.delete('ann')
    await confirm(link, 'wrong horse')
    await cancel(link)
    await cancel(link)
    await confirm(link)
    const second = await linkFor('ann@example.com')
    clock.advance(60)
    await confirm(second)

    const [early, late] = [NOON + 60, NOON + 120]
    const refused = { type: 'recovery.refused', userId: 'ann', code: 'recovery_link_invalid' }
    expect(events).toEqual([
      { type: 'recovery.requested', userId: 'ann', at: NOON },
      { ...refused, at: NOON },
      { ...refused, at: early },
      { ...refused, code: 'invalid_credentials', at: early },
      { type: 'recovery.canceled', userId: 'ann', at: early },
      { ...refused, at: early },
      { ...refused, at: early },
      { type: 'recovery.requested', userId: 'ann', at: early },
      { type: 'recovery.confirmed', userId: 'ann', at: late },
    ])
  })

  test.each([1, 17, 33])('a link is not padded, and good without it, for a user id of %i letters', async (length) => {
    const { totp, enroll, linksOf, confirm, cancel } = await service()
    const id = 'x'.repeat(length)
    await enroll(id)
    const [, stopping] = await linksOf(id)
    expect(await cancel(stopping)).toBe('done')
    const [confirming] = await linksOf(id)
    expect(await confirm(confirming)).toBe('done')

    for (const { token } of [stopping, confirming]) expect(token).toMatch(/^[\w-]+$/)
    expect(await totp.isTotpEnabled(id)).toBe(false)
  })

  test('a hard cap of wrong passwords is lifted when the password changes, and not by canceling', async () => {
    const { totp, clock, linkFor, confirm, cancel } = await service({ lockAfter: 6 })
    const lock = async () => {
      const link = await linkFor('ann@example.com')
      for (let n = 1; n <= 6; n++) {
        expect(await confirm(link, 'wrong')).toBe('invalid_credentials')
        clock.advance(n < 5 ? 0 : 60)
      }
      expect(await confirm(link)).toBe('second_factor_locked')
      clock.advance(HOUR)
    }
    await lock()
    await totp.credentialsChanged('ann')
    const link = await linkFor('ann@example.com')
    expect(await confirm(link, 'wrong')).toBe('invalid_credentials')
    await totp.credentialsChanged('ann')
    await lock()
    expect(await cancel(await linkFor('ann@example.com'))).toBe('done')
    expect(await confirm(await linkFor('ann@example.com'))).toBe('second_factor_locked')
    await totp.credentialsChanged('ann')
    expect(await confirm(await linkFor('ann@example.com'))).toBe('done')
  })

  test('somebody who reads the mail buys no guesses at the password by canceling', async () => {
    const { linkFor, confirm, cancel, passwordsJudged } = await service()
    for (let n = 0; n < 4; n++) {
      const link = await linkFor('ann@example.com')
      for (let guess = 0; guess < 4; guess++) await confirm(link, 'wrong horse')
      expect(await cancel(link)).toBe('done')
    }
    expect(passwordsJudged()).toBe(5)
  })

  test('wrong passwords that set in a wait, and those that lock, are announced once each and mailed', async () => {
    const { totp, clock, linkFor, confirm } = await service({ lockAfter: 6 })
    const told: TotpEvent[] = []
    const kinds: string[] = []
    for (const type of ['totp.failing', 'totp.locked'] as const) totp.on(type, (event) => void told.push(event))
    notifyByMail(totp, {
      addressesOf: async () => ['ann@example.com'],
      send: async ({ kind }) => void kinds.push(kind),
    })
    const link = await linkFor('ann@example.com')
    await Promise.all(Array.from({ length: 20 }, () => confirm(link, 'wrong')))
    clock.advance(30)
    await confirm(link, 'wrong')
    await totp.close()

    const method = 'recovery_password'
    expect(told).toEqual([
      { type: 'totp.failing', userId: 'ann', method, consecutive: 5, at: NOON },
      { type: 'totp.locked', userId: 'ann', method, at: NOON + 30 },
    ])
    expect(kinds.sort()).toEqual(['recovery_failing', 'recovery_locked'])
  })

  test('wrong passwords are counted per user, over all links', async () => {
    const { linkFor, confirm, passwordsJudged } = await service()
    const links = await Promise.all(Array.from({ length: 3 }, () => linkFor('ann@example.com')))
    const bobs = await linkFor('bob@example.com')
    for (const link of [...links, ...links]) await confirm(link, 'wrong horse')

    expect(passwordsJudged()).toBe(5)
    expect(await confirm(bobs, 'wrong horse')).toBe('invalid_credentials')
  })

  test('wrong passwords there take nothing from the codes of the app, nor the other way round', async () => {
    const { totp, clock, phone, linkFor, confirm } = await service()
    const link = await linkFor('ann@example.com')
    for (let n = 0; n < 6; n++) await confirm(link, 'wrong horse')
    clock.advance(30)

    await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))

    for (let n = 0; n < 6; n++) await outcome(totp.verifyTotpCode('ann', '12345'))
    expect(await confirm(link)).toBe('done')
  })

  test('a link is for its user, and no token of another kind is one', async () => {
    const { totp, clock, phone, linkFor, confirm, cancel, passwordsJudged } = await service()
    const [link, bobs] = [await linkFor('ann@example.com'), await linkFor('bob@example.com')]
    const challenge = await totp.generateChallengeToken('ann')
    clock.advance(30)
    const proof = await totp.answerChallenge(challenge, { method: 'totp', code: phone.codeAt(clock.now()) })
    const tokens = jwtTokens(totp, { authenticate: async () => 'ann' })
    const { access, refresh } = await tokens.issueTokens(proof)
    const another = {
      ...link,
      token: `${link.token.slice(0, 40)}${link.token[40] === 'A' ? 'B' : 'A'}${link.token.slice(41)}`,
    }
    const others: Record<string, Link> = {
      "another user's id": { uid: bobs.uid, token: link.token },
      "another user's token": { uid: link.uid, token: bobs.token },
      'the id as it is': { uid: 'ann', token: link.token },
      'a challenge': { uid: link.uid, token: await totp.generateChallengeToken('ann') },
      'a challenge that was answered': { uid: link.uid, token: challenge },
      'a trusted device': { uid: link.uid, token: String(await totp.trustDevice(proof)) },
      'an access token': { uid: link.uid, token: access },
      'a refresh token': { uid: link.uid, token: refresh },
      "a text of the host's": { uid: link.uid, token: totp.encrypt('["x","ann",1]') },
      'an altered token': another,
      nothing: { uid: '', token: '' },
    }
    for (const [name, other] of Object.entries(others)) {
      expect(other.token === '' || other.token.length > 20, name).toBe(true)
      expect(await confirm(other), name).toBe('recovery_link_invalid')
      expect(await cancel(other), name).toBe('recovery_link_invalid')
    }
    expect(passwordsJudged()).toBe(0)
    expect(await outcome(totp.verifyChallengeToken(link.token))).toBe('challenge_invalid')
    expect((await totp.startLogin('ann', { trustedDevice: link.token })).status).toBe('challenge')
    expect(await confirm(link), 'none of it has used the link up').toBe('done')
  })

  test('unknown, without 2FA, not allowed in: the answer is the same and no mail goes out', async () => {
    const { recovery, totp, mails, events, errors, confirm, linkFor, gone } = await service()
    gone.delete('dan')
    const dans = await linkFor('dan@example.com')
    gone.add('dan')
    mails.length = 0
    events.length = 0

    for (const email of ['nobody@example.com', 'cid@example.com', 'dan@example.com', 'no address', '']) {
      expect(await recovery.requestRecovery(email)).toBeUndefined()
    }
    await totp.close()

    expect([mails, events, errors]).toEqual([[], [], []])
    expect(await confirm(dans)).toBe('recovery_link_invalid')
    expect(await totp.isTotpEnabled('dan')).toBe(true)
  })

  test('the mail goes to the address that is kept, not to the one that was typed', async () => {
    const { mailsFor } = await service()

    expect((await mailsFor('aNN@EXAMPLE.com')).map(({ to }) => to)).toEqual(['Ann@example.com', 'ann@home.example'])
  })

  test("a stranger gets five mails an hour into a user's mailbox, however many are asked for at once", async () => {
    const { recovery, totp, clock, mails } = await service()
    const ask = async (times: number) => {
      await Promise.all(Array.from({ length: times }, () => recovery.requestRecovery('bob@example.com')))
      await totp.close()
    }

    await ask(20)
    expect(mails).toHaveLength(5)
    clock.advance(HOUR - 1)
    await ask(1)
    expect(mails).toHaveLength(5)
    clock.advance(1)
    await ask(20)

    expect(mails).toHaveLength(10)
    expect(new Set(mails.map((mail) => 'url' in mail && mail.url)).size, 'each with a link of its own').toBe(10)

    await recovery.requestRecovery('ann@example.com')
    await totp.close()
    expect(
      mails.slice(10).map(({ to }) => to),
      'others get theirs',
    ).toEqual(['ann@home.example', 'Ann@example.com'])
  })
})

type Service = {
  totp: Awaited<ReturnType<typeof createTotp>>
  enroll: (id: string) => Promise<unknown>
}

/** `done`, or the code of the refusal, with the time to wait where there is one. */
async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'done'
  } catch (error) {
    if (!(error instanceof TotpError)) throw error
    return error.retryAfterSeconds === undefined ? error.code : `${error.code} in ${error.retryAfterSeconds}`
  }
}

/** What the page behind the link posts. */
function linkIn(mail: Notification | undefined): Link {
  if (mail === undefined || !('url' in mail)) throw new TypeError('a mail without a link')
  const said = new URLSearchParams(new URL(mail.url).hash.slice(1))
  return { uid: String(said.get('uid')), token: String(said.get('token')) }
}
