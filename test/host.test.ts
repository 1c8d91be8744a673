import assert from 'node:assert/strict'
import {
  createTotp,
  generateFernetKey,
  type Proof,
  type Totp,
  type TotpError,
  type TotpEvent,
  type TotpOptions,
  type TotpStore,
} from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { jwtTokens } from 'totp-kit/jwt'
import { memoryStore } from 'totp-kit/store/memory'
import { type AuthenticatorApp, authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, test } from 'vitest'

const NOON = 1_800_000_000

/** A service as a host calls it itself, without an endpoint, and what it announced since it was last asked. */
async function host(options: Partial<TotpOptions<string>> = {}) {
  const clock = fakeClock(NOON)
  const store = options.store ?? memoryStore()
  const encryptionKey = options.encryptionKey ?? generateFernetKey()
  const totp = await createTotp<string>({ issuer: 'Acme', clock: clock.now, ...options, store, encryptionKey })
  const heard: TotpEvent[] = []
  totp.on('*', (event) => void heard.push(event), { awaited: true })
  const announced = () => heard.splice(0)
  const enroll = async (id = 'ann'): Promise<{ phone: AuthenticatorApp; backupCodes: string[] }> => {
    const phone = authenticatorFor((await totp.createTotpSetup({ id, accountName: id })).uri)
    const backupCodes = (await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))).backupCodes ?? []
    clock.advance(30)
    announced()
    return { phone, backupCodes }
  }
  return { totp, clock, store, encryptionKey, announced, enroll }
}

function refusing(code: TotpError['code'], details: Partial<TotpError> = {}) {
  return (error: unknown) => {
    const { retryAfterSeconds, cause, fields } = error as TotpError
    assert.equal((error as TotpError).code, code)
    for (const [name, value] of Object.entries(details)) {
      assert.deepEqual({ retryAfterSeconds, cause, fields }[name as 'cause'], value)
    }
    return true
  }
}

async function challengeFor(totp: Awaited<ReturnType<typeof host>>['totp'], amr?: string[]): Promise<string> {
  const start = await totp.startLogin('ann', amr ? { amr } : {})
  assert.ok('challengeToken' in start)
  return start.challengeToken
}

describe('what is announced', () => {
  test('of an enrollment, a second authenticator and its removal', async () => {
    const { totp, clock, announced } = await host({ maxAuthenticators: 2 })
    const first = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
    await totp.confirmTotpSetup('ann', first.codeAt(NOON))
    const second = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann', name: 'Tablet' })).uri)
    await totp.confirmTotpSetup('ann', second.codeAt(NOON))
    clock.advance(60)
    const third = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
    await totp.confirmTotpSetup('ann', third.codeAt(clock.now()))
    const { authenticators } = await totp.getStatus('ann')
    const removed = authenticators.find(({ name }) => name !== 'Tablet')?.id ?? ''
    await totp.removeAuthenticator('ann', removed)

    const late = NOON + 60
    assert.deepEqual(announced(), [
      { type: 'totp.created', userId: 'ann', at: NOON },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: NOON },
      { type: 'totp.confirmed', userId: 'ann', replaced: false, added: false, at: NOON },
      { type: 'totp.created', userId: 'ann', at: NOON },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: NOON },
      { type: 'totp.confirmed', userId: 'ann', replaced: false, added: true, at: NOON },
      { type: 'totp.created', userId: 'ann', at: late },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: late },
      { type: 'totp.confirmed', userId: 'ann', replaced: true, added: false, at: late },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: late },
      { type: 'authenticator.removed', userId: 'ann', authenticatorId: removed, at: late },
    ])
  })

  test('of a login, a backup code, and the set of codes', async () => {
    const { totp, clock, announced, enroll } = await host()
    const { phone, backupCodes } = await enroll()
    const at = clock.now()

    await totp.answerChallenge(await challengeFor(totp), { method: 'totp', code: phone.codeAt(at) })
    await totp.verifyBackupCode('ann', backupCodes[0] ?? '')
    await assert.rejects(totp.verifyBackupCode('ann', backupCodes[0] ?? ''), refusing('invalid_code'))
    await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(at)), refusing('code_already_used'))
    await totp.rotateBackupCodes('ann')
    await totp.listBackupCodes('ann')
    await totp.generateChallengeToken('ann')
    await totp.credentialsChanged('ann')
    await totp.unlock('ann')
    await totp.disableTotp('ann')

    assert.deepEqual(announced(), [
      { type: 'login.challenged', userId: 'ann', at },
      { type: 'totp.verified', userId: 'ann', method: 'totp', at },
      { type: 'totp.verified', userId: 'ann', method: 'backup_code', at },
      { type: 'backup_code.used', userId: 'ann', remaining: backupCodes.length - 1, at },
      { type: 'totp.refused', userId: 'ann', method: 'backup_code', code: 'invalid_code', at },
      { type: 'totp.refused', userId: 'ann', method: 'totp', code: 'code_already_used', at },
      { type: 'backup_codes.rotated', userId: 'ann', at },
      { type: 'backup_codes.viewed', userId: 'ann', at },
      { type: 'login.challenged', userId: 'ann', at },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at },
      { type: 'credentials.changed', userId: 'ann', at },
      { type: 'totp.unlocked', userId: 'ann', at },
      { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at },
      { type: 'totp.disabled', userId: 'ann', at },
    ])
  })

  test('of wrong codes: when the next has to wait, and when the second factor is locked', async () => {
    const { totp, clock, announced, enroll } = await host({ failures: { lockAfter: 6 } })
    const { phone } = await enroll()
    const wrong = phone.codeAt(NOON + 100_000)
    for (let attempt = 1; attempt <= 6; attempt++) {
      await assert.rejects(totp.verifyTotpCode('ann', wrong), refusing('invalid_code'))
      clock.advance(attempt < 5 ? 0 : 30)
    }
    await assert.rejects(totp.verifyTotpCode('ann', wrong), refusing('second_factor_locked'))

    const found = announced().map(({ at: _, userId: __, ...event }) => event)
    assert.deepEqual(
      found.filter(({ type }) => type !== 'totp.refused').map(({ type }) => type),
      ['totp.failing', 'totp.locked'],
    )
    assert.deepEqual(
      found.find(({ type }) => type === 'totp.failing'),
      { type: 'totp.failing', method: 'totp', consecutive: 5 },
    )
    assert.deepEqual(found.at(-1), { type: 'totp.refused', method: 'totp', code: 'second_factor_locked' })
  })

  test('of a trusted device, from its first day to its last', async () => {
    const { totp, clock, announced, enroll } = await host({ trustedDevices: { days: 30 } })
    const { phone } = await enroll()
    const at = clock.now()
    const proof = await totp.verifyTotpCode('ann', phone.codeAt(at))
    const token = (await totp.trustDevice(proof, 'Laptop')) ?? ''
    const [device] = await totp.listTrustedDevices('ann')
    const deviceId = device?.id ?? ''
    const login = await totp.startLogin('ann', { trustedDevice: token })
    assert.ok('proof' in login && login.trustedDevice)
    assert.deepEqual([login.proof.method, login.proof.amr], ['trusted_device', ['pwd']])
    assert.ok('challengeToken' in (await totp.startLogin('ann', { trustedDevice: token })))
    await assert.rejects(totp.removeTrustedDevice('ann', deviceId), refusing('not_found'))
    const other = await totp.trustDevice(proof)
    assert.ok(other)
    const [kept] = await totp.listTrustedDevices('ann')
    await totp.removeTrustedDevice('ann', kept?.id ?? '')

    assert.deepEqual(announced(), [
      { type: 'totp.verified', userId: 'ann', method: 'totp', at },
      { type: 'trusted_device.kept', userId: 'ann', deviceId, name: 'Laptop', at },
      { type: 'trusted_device.used', userId: 'ann', deviceId, at },
      { type: 'trusted_device.refused', userId: 'ann', deviceId, copied: true, at },
      { type: 'login.challenged', userId: 'ann', at },
      { type: 'trusted_device.kept', userId: 'ann', deviceId: kept?.id, name: null, at },
      { type: 'trusted_device.removed', userId: 'ann', deviceId: kept?.id, at },
    ])
  })
})

describe('a trusted device', () => {
  async function withDevice() {
    const parts = await host({ trustedDevices: { days: 30 } })
    const { phone } = await parts.enroll()
    const proof = await parts.totp.verifyTotpCode('ann', phone.codeAt(parts.clock.now()))
    const token = (await parts.totp.trustDevice(proof)) ?? ''
    parts.announced()
    return { ...parts, token }
  }

  test('gets a new token at each log-in, which is good for the next one', async () => {
    const { totp, clock, token, announced } = await withDevice()
    let current = token
    for (let login = 0; login < 3; login++) {
      clock.advance(86_400)
      const start = await totp.startLogin('ann', { trustedDevice: current })
      assert.ok('proof' in start && start.trustedDevice)
      assert.notEqual(start.trustedDevice, current)
      current = start.trustedDevice
    }
    assert.deepEqual(
      announced().map(({ type }) => type),
      ['trusted_device.used', 'trusted_device.used', 'trusted_device.used'],
    )
  })

  test('says nothing of another user, and is not told of either', async () => {
    const { totp, token, announced, enroll, clock } = await withDevice()
    await enroll('bob')
    const texts = [token, await totp.generateChallengeToken('bob'), totp.encrypt('bob'), '']
    announced()

    for (const text of texts) {
      assert.ok('challengeToken' in (await totp.startLogin('bob', { trustedDevice: text })))
      assert.deepEqual(announced(), [{ type: 'login.challenged', userId: 'bob', at: clock.now() }])
    }
    assert.ok('proof' in (await totp.startLogin('ann', { trustedDevice: token })))
  })

  test('is none any more where the host has switched them off, and is not told of', async () => {
    const { store, encryptionKey, token } = await withDevice()
    const { totp, announced } = await host({ store, encryptionKey, trustedDevices: false })

    assert.ok('challengeToken' in (await totp.startLogin('ann', { trustedDevice: token })))
    assert.deepEqual(
      announced().map(({ type }) => type),
      ['login.challenged'],
    )
  })
})

describe('a challenge token, asked by the host', () => {
  test('names its user, and the user of the host, and is not used up by it', async () => {
    const { totp, clock, enroll } = await host({ findUser: (id) => (id === 'ann' ? 'Ann' : null) })
    const { phone } = await enroll()
    const token = await challengeFor(totp)

    assert.equal(await totp.verifyChallengeToken(token), 'ann')
    assert.equal(await totp.getUserFromChallengeToken(token), 'Ann')

    const proof = await totp.answerChallenge(token, { method: 'totp', code: phone.codeAt(clock.now()) })
    assert.equal(proof.userId, 'ann')
    await assert.rejects(totp.verifyChallengeToken(token), refusing('challenge_invalid'))
    await assert.rejects(totp.getUserFromChallengeToken(token), refusing('challenge_invalid'))
  })

  test('names nobody once the credentials have changed, when it is altered, or past its time', async () => {
    const { totp, clock, enroll } = await host()
    await enroll()
    const changed = await challengeFor(totp)
    await totp.credentialsChanged('ann')
    await assert.rejects(totp.verifyChallengeToken(changed), refusing('challenge_invalid'))
    const old = await challengeFor(totp)
    clock.advance(3600)

    for (const token of [old, '', 'x']) {
      await assert.rejects(totp.verifyChallengeToken(token), refusing('challenge_invalid'))
    }
  })

  test.each([[null], [undefined], [false]])('names no user whom the host does not know: %s', async (nobody) => {
    const { totp, clock, enroll } = await host({ findUser: () => nobody as unknown as null })
    const { phone } = await enroll()
    const token = await challengeFor(totp)

    await assert.rejects(totp.getUserFromChallengeToken(token), refusing('challenge_invalid'))
    const code = { method: 'totp', code: phone.codeAt(clock.now()) } as const
    await assert.rejects(totp.answerChallenge(token, code), refusing('challenge_invalid'))
  })

  test('needs findUser to give a user', async () => {
    const { totp, enroll } = await host()
    await enroll()

    await assert.rejects(
      totp.getUserFromChallengeToken(await challengeFor(totp)),
      new TypeError('getUserFromChallengeToken requires the findUser option'),
    )
  })

  test('remembers how the first factor was proved: each word of it is in the proof', async () => {
    const { totp, clock, enroll } = await host()
    const { phone } = await enroll()
    const amrOf = async (amr?: string[]) => {
      clock.advance(30)
      const token = await challengeFor(totp, amr)
      return (await totp.answerChallenge(token, { method: 'totp', code: phone.codeAt(clock.now()) })).amr
    }

    assert.deepEqual(await amrOf(), ['pwd', 'otp', 'mfa'])
    assert.deepEqual(await amrOf(['fed', 'hwk']), ['fed', 'hwk', 'otp', 'mfa'])
    assert.deepEqual(await amrOf([]), ['otp', 'mfa'])
  })
})

test('a log-in without a second factor gives a proof of the first, and says so', async () => {
  const { totp } = await host()

  const start = await totp.startLogin('bob', { amr: ['hwk'] })

  assert.ok('proof' in start)
  const proof: Proof = start.proof
  assert.deepEqual(
    { ...proof },
    {
      userId: 'bob',
      method: 'first_factor',
      amr: ['hwk'],
      verifiedAt: NOON,
      generation: 0,
      backupCodesRemaining: null,
    },
  )
  assert.equal(start.trustedDevice, null)
})

test('a first factor brings no second one along: `mfa` and `otp` of the host are left out, on a trusted device too', async () => {
  const { totp, enroll, clock } = await host({ trustedDevices: { days: 30 } })
  const tokens = jwtTokens(totp, { authenticate: async () => null })
  const { phone } = await enroll()
  const device = await totp.trustDevice(await totp.verifyTotpCode('ann', phone.codeAt(clock.now())))
  const amr = ['fed', 'mfa', 'otp']

  for (const [id, trustedDevice] of [
    ['bob', undefined],
    ['ann', device],
  ] as const) {
    const login = await totp.startLogin(id, { amr, ...(trustedDevice ? { trustedDevice } : {}) })
    assert.ok('proof' in login)
    assert.deepEqual(login.proof.amr, ['fed'])
    const { access } = await tokens.issueTokens(login.proof)
    assert.equal((await tokens.verifyAccessToken(`Bearer ${access}`))?.verifiedAt, null)
    await assert.rejects(totp.trustDevice(login.proof), TypeError)
  }
  clock.advance(30)
  const typed = { method: 'totp', code: phone.codeAt(clock.now()) } as const
  const proof = await totp.answerChallenge(await challengeFor(totp, amr), typed)
  assert.deepEqual(proof.amr, ['fed', 'otp', 'mfa'])
})

test('a code of a kind that there is not is a bug of the host, and is not judged: each word would have a budget', async () => {
  const { totp, enroll, announced } = await host()
  const { backupCodes } = await enroll()
  const code = String(backupCodes[0])
  const challenge = await challengeFor(totp)
  announced()

  for (const method of ['recovery_password', 'BACKUP_CODE', 'guess 1', '', undefined, null, ['backup_code']]) {
    const typed = { method, code } as Parameters<typeof totp.answerChallenge>[1]
    await assert.rejects(totp.answerChallenge(challenge, typed), TypeError)
  }

  assert.deepEqual(announced(), [])
  assert.equal((await totp.answerChallenge(challenge, { method: 'backup_code', code })).backupCodesRemaining, 9)
})

describe("backup codes of the host's own", () => {
  test('take the place of the others, and are read like ours', async () => {
    const { totp, announced, enroll, clock } = await host()
    const { backupCodes } = await enroll()

    await totp.storeBackupCodes('ann', ['0123456789', 'abcde-fghij-kl'])

    assert.deepEqual(announced(), [{ type: 'backup_codes.rotated', userId: 'ann', at: clock.now() }])
    await assert.rejects(totp.verifyBackupCode('ann', backupCodes[0] ?? ''), refusing('invalid_code'))
    assert.equal((await totp.verifyBackupCode('ann', 'ABCDE FGHIJ KL')).backupCodesRemaining, 1)
    assert.deepEqual(await totp.listBackupCodes('ann'), [
      { code: '0123456789', usedAt: null },
      { code: 'abcde-fghij-kl', usedAt: clock.now() },
    ])
  })

  test('of seven characters are refused, hyphens not counted, and so are two that are read alike', async () => {
    const { totp, enroll } = await host()
    const { backupCodes } = await enroll()
    const tooShort = new RangeError(
      'a backup code must have at least 8 characters, or 9 digits, not counting spaces and hyphens',
    )

    await assert.rejects(totp.storeBackupCodes('ann', ['0123456789', 'abc-def-g']), tooShort)
    await assert.rejects(totp.storeBackupCodes('ann', ['0123456789', '0123 4567']), tooShort)
    await assert.rejects(
      totp.storeBackupCodes('ann', ['0123456789', 'O123 456789']),
      new RangeError('backup codes must be different from each other'),
    )
    assert.equal((await totp.listBackupCodes('ann')).length, backupCodes.length)
  })

  test('of more characters than the endpoints take are refused: they could not be used', async () => {
    const { totp, enroll } = await host()
    const { backupCodes } = await enroll()
    const tooLong = new RangeError('a backup code must have at most 64 characters')

    for (const code of ['A'.repeat(65), `${'ABCD-'.repeat(13)}ABCD`]) {
      await assert.rejects(totp.storeBackupCodes('ann', ['0123456789', code]), tooLong)
    }
    assert.equal((await totp.listBackupCodes('ann')).length, backupCodes.length)
    await totp.storeBackupCodes('ann', ['A'.repeat(64)])
    assert.equal((await totp.verifyBackupCode('ann', 'a'.repeat(64))).backupCodesRemaining, 0)
  })

  test('are none for a user without a second factor', async () => {
    const { totp } = await host()

    await assert.rejects(totp.storeBackupCodes('bob', ['0123456789']), refusing('totp_not_set_up'))
    await assert.rejects(totp.rotateBackupCodes('bob'), refusing('totp_not_set_up'))
    await assert.rejects(totp.listBackupCodes('bob'), refusing('totp_not_set_up'))
    await totp.createTotpSetup({ id: 'bob', accountName: 'bob' })
    await assert.rejects(totp.listBackupCodes('bob'), refusing('totp_not_enabled'))
  })
})

test('codes that are kept hashed cannot be viewed, nor those from a time when they were, or were not', async () => {
  const hashed = { backupCodes: { storage: 'hashed' } } as const
  const { totp, enroll, store, encryptionKey } = await host(hashed)
  await enroll()
  await assert.rejects(totp.listBackupCodes('ann'), refusing('not_found'))

  const sealing = await host({ store, encryptionKey })
  await assert.rejects(sealing.totp.listBackupCodes('ann'), refusing('not_found'))
  await sealing.totp.rotateBackupCodes('ann')
  assert.notEqual((await sealing.totp.listBackupCodes('ann')).length, 0)
  await assert.rejects(totp.listBackupCodes('ann'), refusing('not_found'))
})

test('what no key opens is unavailable, and told, and is not taken for a wrong code', async () => {
  const [first, second] = [generateFernetKey(), generateFernetKey()]
  const store = memoryStore()
  await host({ store, encryptionKey: first })
  const { phone } = await (await host({ store, encryptionKey: [second, first] })).enroll()
  const { totp, announced, clock } = await host({ store, encryptionKey: first })
  const unreadable = [{ type: 'secret.unreadable', userId: 'ann', at: clock.now() }]

  const secret = new Error('no encryption key can decrypt a stored secret')
  await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(NOON)), refusing('unavailable', { cause: secret }))
  assert.deepEqual(announced(), unreadable)

  const code = new Error('no encryption key can decrypt a stored backup code')
  await assert.rejects(totp.listBackupCodes('ann'), refusing('unavailable', { cause: code }))
  assert.deepEqual(announced(), unreadable)
})

test('a second authenticator that opens is as good as ever beside one that does not', async () => {
  const [first, second] = [generateFernetKey(), generateFernetKey()]
  const store = memoryStore()
  const options = { store, maxAuthenticators: 2 }
  const { enroll } = await host({ ...options, encryptionKey: first })
  const { phone } = await enroll()
  const both = await host({ ...options, encryptionKey: [second, first] })
  both.clock.advance(30)
  await both.enroll()
  const { totp, clock, announced } = await host({ ...options, encryptionKey: first })
  clock.advance(90)

  assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))).userId, 'ann')
  assert.deepEqual(
    announced().map(({ type }) => type),
    ['totp.verified'],
  )
})

test('a wrong code beside a secret that does not open is unavailable: it may have been the code of that one', async () => {
  const [first, second] = [generateFernetKey(), generateFernetKey()]
  const options = { store: memoryStore(), maxAuthenticators: 2 }
  await (await host({ ...options, encryptionKey: first })).enroll()
  const both = await host({ ...options, encryptionKey: [second, first] })
  both.clock.advance(30)
  const { phone } = await both.enroll()
  const { totp, clock, announced } = await host({ ...options, encryptionKey: first })
  clock.advance(90)

  await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now())), refusing('unavailable'))

  assert.deepEqual(announced(), [{ type: 'secret.unreadable', userId: 'ann', at: clock.now() }])
})

test('the wrong code that begins a delay says how long it is, and those before it say nothing of one', async () => {
  const { totp, enroll } = await host()
  await enroll()
  const told: (number | undefined)[] = []

  for (let attempt = 1; attempt <= 5; attempt++) {
    await totp.verifyTotpCode('ann', '000000000').catch((error) => told.push(error.retryAfterSeconds))
  }

  assert.deepEqual(told, [undefined, undefined, undefined, undefined, 30])
})

test('of two confirmations at once one switches 2FA on, and the other is told that it is on', async () => {
  const { totp, announced } = await host()
  const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
  announced()
  const confirm = () => totp.confirmTotpSetup('ann', phone.codeAt(NOON))

  const ends = await Promise.allSettled([confirm(), confirm()])

  const refused = ends.filter((end) => end.status === 'rejected')
  assert.deepEqual(
    refused.map(({ reason }) => reason.code),
    ['totp_already_enabled'],
  )
  assert.deepEqual(announced(), [
    { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: NOON },
    { type: 'totp.confirmed', userId: 'ann', replaced: false, added: false, at: NOON },
  ])
})

test('a phone whose clock is slow is resynchronized by its next code, when it enrolls as well', async () => {
  const { totp, clock, announced } = await host()
  const phone = authenticatorFor((await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })).uri)
  announced()
  const shown = () => phone.codeAt(clock.now() - 90)

  await assert.rejects(totp.confirmTotpSetup('ann', shown()), refusing('invalid_code'))
  clock.advance(30)
  await totp.confirmTotpSetup('ann', shown())

  const { authenticators } = await totp.getStatus('ann')
  assert.deepEqual(announced().slice(1), [
    {
      type: 'totp.resynchronized',
      userId: 'ann',
      authenticatorId: authenticators[0]?.id,
      clockOffsetSeconds: -90,
      at: NOON + 30,
    },
    { type: 'sessions.ended', userId: 'ann', keptSessionId: null, at: NOON + 30 },
    { type: 'totp.confirmed', userId: 'ann', replaced: false, added: false, at: NOON + 30 },
  ])
})

test('how far off a clock is is told in the steps of its own authenticator, whatever new ones are given', async () => {
  const { totp, clock, announced } = await host()
  const secret = 'JBSWY3DPEHPK3PXP'
  await totp.importAuthenticator('ann', { secret, periodSeconds: 60 })
  const phone = authenticatorFor(
    `otpauth://totp/Acme:ann?secret=${secret}&issuer=Acme&algorithm=SHA1&digits=6&period=60`,
  )
  const shown = () => phone.codeAt(clock.now() - 180)
  await assert.rejects(totp.verifyTotpCode('ann', shown()), refusing('invalid_code'))
  clock.advance(60)
  announced()

  await totp.verifyTotpCode('ann', shown())

  const [told] = announced()
  assert.equal(told?.type === 'totp.resynchronized' && told.clockOffsetSeconds, -180)
})

test('a code of the window around the right time says nothing of a wrong clock, and one beyond it does', async () => {
  const { totp, clock, enroll } = await host()
  const { phone } = await enroll()
  await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now() + 90)), refusing('invalid_code'))
  clock.advance(30)
  await totp.verifyTotpCode('ann', phone.codeAt(clock.now() + 90))
  clock.advance(300)
  const toldAt = async (offsetSeconds: number) => {
    let told: unknown
    await totp.verifyTotpCode('ann', phone.codeAt(clock.now() + offsetSeconds)).catch((error) => {
      told = [error.code, error.clockOffsetSeconds]
    })
    return told
  }

  assert.deepEqual(await toldAt(-30), ['invalid_code', undefined])
  assert.deepEqual(await toldAt(30), ['invalid_code', undefined])
  assert.deepEqual(await toldAt(-60), ['invalid_code', -60])
})

test('an enrollment that was never confirmed is dropped without a word of 2FA switched off', async () => {
  const { totp, announced } = await host()
  await assert.rejects(totp.disableTotp('ann'), refusing('totp_not_set_up'))
  await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
  announced()

  await totp.disableTotp('ann')

  assert.deepEqual(announced(), [])
  await assert.rejects(totp.confirmTotpSetup('ann', '000000'), refusing('totp_not_set_up'))
})

test('the last authenticator is not removed, and one that is not there is not found', async () => {
  const { totp, announced, enroll } = await host()
  await enroll()
  const [last] = (await totp.getStatus('ann')).authenticators
  const fields = { id: ['The last authenticator cannot be removed. Turn off two-factor authentication instead.'] }

  await assert.rejects(totp.removeAuthenticator('ann', last?.id ?? ''), refusing('validation_failed', { fields }))
  await assert.rejects(totp.removeAuthenticator('ann', 'another'), refusing('not_found'))
  assert.deepEqual(announced(), [])
})

test('a lock is lifted by the host, and the factors stay', async () => {
  const { totp, clock, enroll } = await host({ failures: { lockAfter: 5 } })
  const { phone } = await enroll()
  for (let attempt = 0; attempt < 5; attempt++) await assert.rejects(totp.verifyTotpCode('ann', '000000000'))
  await assert.rejects(totp.verifyTotpCode('ann', phone.codeAt(clock.now())), refusing('second_factor_locked'))

  await totp.unlock('ann')

  assert.equal((await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))).method, 'totp')
})

describe('what a host must not mistake', () => {
  test('an id that is no text of 1 to 255 characters', async () => {
    const { totp } = await host()
    const expected = new TypeError('user id must be a string of 1 to 255 characters; convert numbers with String()')
    const wrong = [undefined, null, 7, {}, '', 'x'.repeat(256), 'a\0b', '\ud800'] as string[]

    for (const id of wrong) {
      for (const call of [
        () => totp.isTotpEnabled(id),
        async () => totp.getStatus(id),
        () => totp.startLogin(id),
        () => totp.generateChallengeToken(id),
        () => totp.createTotpSetup({ id, accountName: 'ann' }),
        () => totp.confirmTotpSetup(id, '000000'),
        () => totp.verifyTotpCode(id, '000000'),
        () => totp.disableTotp(id),
        () => totp.unlock(id),
        () => totp.listTrustedDevices(id),
        () => totp.credentialsChanged(id),
        () => totp.listBackupCodes(id),
      ]) {
        await assert.rejects(call, expected)
      }
    }
    assert.equal(await totp.isTotpEnabled('x'.repeat(255)), false)
  })

  test('a look-alike for a proof, and a proof of the first factor for one of the second', async () => {
    const { totp } = await host({ trustedDevices: { days: 30 } })
    const start = await totp.startLogin('bob')
    assert.ok('proof' in start)

    await assert.rejects(
      totp.trustDevice({ ...start.proof }),
      new TypeError('not a Proof created by totp-kit: is an await missing?'),
    )
    await assert.rejects(
      totp.trustDevice(start.proof),
      new TypeError('trustDevice requires a Proof of a second factor'),
    )
  })

  test('trusted devices that are off, and a forecast without users', async () => {
    const { totp, clock, enroll } = await host({ trustedDevices: false })
    const { phone } = await enroll()
    const proof = await totp.verifyTotpCode('ann', phone.codeAt(clock.now()))

    await assert.rejects(totp.trustDevice(proof), new TypeError('trustDevice requires the trustedDevices option'))
    await assert.rejects(
      totp.forecastEnforcement(['ann'], () => true),
      new TypeError('forecastEnforcement requires the findUser option'),
    )
  })
})

/** A store in which the credentials change right before `operation`: what a flow has read is out of date by then. */
function changingBefore(
  operation: 'settleAttempt' | 'putPending' | 'removeFactors' | 'removeAuthenticator' | 'replaceBackupCodes',
) {
  const store = memoryStore()
  const changing = { is: false }
  const change = async (userId: string) => {
    if (changing.is) await store.raiseGeneration(userId, NOON)
  }
  const before = {
    settleAttempt: async (settlement: Parameters<TotpStore['settleAttempt']>[0]) => {
      await change(settlement.userId)
      return store.settleAttempt(settlement)
    },
    putPending: async (...given: Parameters<TotpStore['putPending']>) => {
      await change(given[0])
      return store.putPending(...given)
    },
    removeFactors: async (removal: Parameters<TotpStore['removeFactors']>[0]) => {
      await change(removal.userId)
      return store.removeFactors(removal)
    },
    removeAuthenticator: async (removal: Parameters<TotpStore['removeAuthenticator']>[0]) => {
      await change(removal.userId)
      return store.removeAuthenticator(removal)
    },
    replaceBackupCodes: async (...given: Parameters<TotpStore['replaceBackupCodes']>) => {
      await change(given[0])
      return store.replaceBackupCodes(...given)
    },
  }
  return { store: { ...store, [operation]: before[operation] } as TotpStore, changing }
}

describe('when the credentials change between a look and the write', () => {
  test('a code of before is a wrong one, and a challenge of before is invalid', async () => {
    const { store, changing } = changingBefore('settleAttempt')
    const { totp, clock, announced, enroll } = await host({ store })
    const { phone } = await enroll()
    const token = await challengeFor(totp)
    announced()
    changing.is = true
    const at = clock.now()
    const code = phone.codeAt(at)

    await assert.rejects(totp.verifyTotpCode('ann', code), refusing('invalid_code'))
    await totp.unlock('ann')
    await assert.rejects(totp.answerChallenge(token, { method: 'totp', code }), refusing('challenge_invalid'))
    assert.deepEqual(announced(), [
      { type: 'totp.refused', userId: 'ann', method: 'totp', code: 'invalid_code', at },
      { type: 'totp.unlocked', userId: 'ann', at },
      { type: 'totp.refused', userId: 'ann', method: 'totp', code: 'challenge_invalid', at },
    ])
  })

  test.each(['putPending', 'removeFactors', 'removeAuthenticator', 'replaceBackupCodes'] as const)(
    'a change asks anew: %s',
    async (operation) => {
      const { store, changing } = changingBefore(operation)
      const { totp, announced, enroll } = await host({ store, stepUp: { maxAgeSeconds: 77 } })
      await enroll()
      changing.is = true
      const call = {
        putPending: () => totp.createTotpSetup({ id: 'ann', accountName: 'ann' }),
        removeFactors: () => totp.disableTotp('ann'),
        removeAuthenticator: () => totp.removeAuthenticator('ann', 'any'),
        replaceBackupCodes: () => totp.rotateBackupCodes('ann'),
      }[operation]

      await assert.rejects(call, (error) => {
        assert.equal((error as TotpError).code, 'step_up_required')
        assert.equal((error as TotpError).maxAgeSeconds, 77)
        return true
      })
      assert.deepEqual(announced(), [])
    },
  )

  test('and there is no second factor, there is nothing to prove', async () => {
    const { store, changing } = changingBefore('putPending')
    const { totp } = await host({ store })
    changing.is = true

    await assert.rejects(totp.createTotpSetup({ id: 'bob', accountName: 'bob' }), refusing('totp_not_set_up'))
  })
})

describe('a listener of errors that fails itself', () => {
  test.each([
    ['throws', () => assert.fail('the log is full')],
    ['rejects', () => Promise.reject(new Error('the log is full'))],
  ])('and %s, fails no call and ends no process', async (_how, onError) => {
    const { totp, enroll } = await host({ onError })
    totp.on('totp.disabled', () => assert.fail('a listener that fails'), { awaited: true })
    await enroll()

    await totp.disableTotp('ann')

    const handler = fetchTotp(totp as Totp, {
      caller: () => assert.fail('the sessions are gone'),
      clientAddress: () => '127.0.0.1',
    })
    assert.equal((await handler(new Request('http://service.test/api/totp/status/'))).status, 503)
  })
})

test("a client's address that cannot be told is a clear refusal, and only where it is asked for", async () => {
  const { totp } = await host({ rateLimit: '10/minute', onError: () => undefined })
  const handler = fetchTotp(totp as Totp, {
    caller: () => ({ id: 'ann', accountName: 'ann' }),
    clientAddress: () => assert.fail('no platform'),
    jwt: jwtTokens(totp as Totp, { authenticate: async () => null }),
  })
  const statusOf = async (method: string, path: string) =>
    (await handler(new Request(`http://service.test/api/${path}`, { method }))).status

  assert.equal(await statusOf('GET', 'totp/status/'), 200)
  assert.equal(await statusOf('POST', 'jwt/create/'), 503)
})

test('what createTotp did not make is told, the promise of it above all', async () => {
  const options = { authenticate: async () => null }
  const promise = host()

  for (const notIt of [promise, {}] as unknown as Totp[]) {
    assert.throws(
      () => jwtTokens(notIt, options),
      new TypeError(
        'not a service that createTotp returned: write `await createTotp(…)`, and load only one copy of totp-kit',
      ),
    )
  }
  jwtTokens((await promise).totp as Totp, options)
})
