import assert from 'node:assert/strict'
import { createTotp, generateFernetKey, type Totp } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { jwtTokens } from 'totp-kit/jwt'
import type { Notification } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor } from 'totp-kit/testing'
import { test } from 'vitest'
import { endpoints } from '../src/contract/endpoints.ts'

/** A service on a clock that counts how often it is read. */
async function counted() {
  const clock = { at: 1_800_000_000, reads: 0 }
  const mails: Notification[] = []
  const totp = await createTotp<string>({
    issuer: 'Acme',
    encryptionKey: generateFernetKey(),
    store: memoryStore(),
    trustedDevices: { days: 30 },
    maxAuthenticators: 2,
    findUser: (id) => id,
    enforcement: { required: (user) => user === 'must', accountName: (user) => user },
    clock() {
      clock.reads++
      return clock.at
    },
  })
  const tokens = jwtTokens(totp, { authenticate: async (username) => username })
  const recovery = accountRecovery(totp, {
    findAccount: async (email) => ({ userId: 'ann', email }),
    checkPassword: async () => true,
    send: async (notice) => void mails.push(notice),
    pageUrl: 'https://app.example/recover',
  })
  const reads: Record<string, number> = {}
  /** Does something, and notes how often the clock was read meanwhile. */
  const counting = async <T>(name: string, work: () => T | Promise<T>): Promise<T> => {
    clock.reads = 0
    const result = await work()
    reads[name] = clock.reads
    return result
  }
  const enroll = async (id: string) => {
    const { uri } = await totp.createTotpSetup({ id, accountName: id })
    const phone = authenticatorFor(uri)
    const confirmed = await totp.confirmTotpSetup(id, phone.codeAt(clock.at))
    const code = () => {
      clock.at += 30
      return phone.codeAt(clock.at)
    }
    return { ...confirmed, code }
  }
  const linkIn = async () => {
    await totp.close()
    const notice = mails.at(-1)
    const said = new URLSearchParams(new URL(notice && 'url' in notice ? notice.url : '').hash.slice(1))
    return { uid: String(said.get('uid')), token: String(said.get('token')) }
  }
  return { totp, tokens, recovery, clock, reads, counting, enroll, linkIn }
}

const never = (names: readonly string[]) => names.map((name) => [name, 0])
const once = (names: readonly string[]) => names.map((name) => [name, 1])

test('each function reads the clock once, or not at all when it needs no time', async () => {
  const { totp, tokens, recovery, clock, reads, counting, enroll, linkIn } = await counted()
  const call = <Name extends keyof Totp>(name: Name, work: (totp: Totp) => unknown) =>
    counting(name, () => work(totp)) as Promise<Awaited<ReturnType<Extract<Totp[Name], (...args: never) => unknown>>>>

  const { uri } = await call('createTotpSetup', (totp) => totp.createTotpSetup({ id: 'bob', accountName: 'bob' }))
  const phone = authenticatorFor(uri)
  await call('confirmTotpSetup', (totp) => totp.confirmTotpSetup('bob', phone.codeAt(clock.at)))
  const { code, backupCodes } = await enroll('ann')
  await call('isTotpEnabled', (totp) => totp.isTotpEnabled('ann'))
  const { authenticators } = await call('getStatus', (totp) => totp.getStatus('ann'))
  const [{ id: first } = { id: '' }] = authenticators
  await call('getStatuses', (totp) => totp.getStatuses(['ann', 'bob']))
  await call('startLogin', (totp) => totp.startLogin('ann'))
  const token = await call('generateChallengeToken', (totp) => totp.generateChallengeToken('ann'))
  await call('verifyChallengeToken', (totp) => totp.verifyChallengeToken(token))
  await call('getUserFromChallengeToken', (totp) => totp.getUserFromChallengeToken(token))
  const typed = code()
  const proof = await call('answerChallenge', (totp) => totp.answerChallenge(token, typed))
  const caller = { id: 'ann', accountName: 'ann', verifiedAt: proof.verifiedAt }
  await call('requireFresh', (totp) => totp.requireFresh(caller, { maxAgeSeconds: 60 }))
  await call('permitChange', (totp) => totp.permitChange(caller, code()))
  await call('importAuthenticator', (totp) => totp.importAuthenticator('ann', { secret: 'JBSWY3DPEHPK3PXP' }))
  await call('verifyTotpCode', (totp) => totp.verifyTotpCode('ann', code()))
  await call('renameAuthenticator', (totp) => totp.renameAuthenticator('ann', first, 'phone'))
  await call('backupCodesSaved', (totp) => totp.backupCodesSaved('ann'))
  const again = await call('verifyBackupCode', (totp) => totp.verifyBackupCode('ann', backupCodes?.[0] ?? ''))
  await call('trustDevice', (totp) => totp.trustDevice(again, 'laptop'))
  const [device] = await call('listTrustedDevices', (totp) => totp.listTrustedDevices('ann'))
  await call('removeTrustedDevice', (totp) => totp.removeTrustedDevice('ann', device?.id ?? ''))
  const trusted = await totp.trustDevice(again)
  const login = await counting('startLogin on a trusted device', () =>
    totp.startLogin('ann', { trustedDevice: String(trusted) }),
  )
  assert.equal(login.status, 'complete')
  const must = await counting('startLogin of a user who must enroll', () => totp.startLogin('must'))
  assert.equal(must.status, 'enrollment_required')
  await call('verifyEnrollmentToken', (totp) => totp.verifyEnrollmentToken(must.enrollmentToken))
  await call('removeTrustedDevices', (totp) => totp.removeTrustedDevices('ann'))
  await call('forecastEnforcement', (totp) => totp.forecastEnforcement(['ann', 'bob'], () => true))
  await call('storeBackupCodes', (totp) => totp.storeBackupCodes('ann', ['abcdefghij']))
  await call('rotateBackupCodes', (totp) => totp.rotateBackupCodes('ann'))
  await call('listBackupCodes', (totp) => totp.listBackupCodes('ann'))
  const { access, refresh } = await counting('issueTokens', () => tokens.issueTokens(again))
  const { sessionId = '' } =
    (await counting('verifyAccessToken', () => tokens.verifyAccessToken(`Bearer ${access}`))) ?? {}
  await counting('verifyToken', () => tokens.verifyToken(access))
  const pair = await counting('refreshTokens', () => tokens.refreshTokens(refresh))
  const raised = await counting('raiseSession', () => tokens.raiseSession(again, sessionId))
  await counting('refreshTokens, used before', () => tokens.refreshTokens(pair.refresh).catch(() => undefined))
  await counting('logout', () => tokens.logout(raised?.refresh ?? ''))
  await call('removeAuthenticator', (totp) => totp.removeAuthenticator('ann', first))
  await call('credentialsChanged', (totp) => totp.credentialsChanged('ann'))
  await call('unlock', (totp) => totp.unlock('ann'))
  const value = await call('encrypt', (totp) => totp.encrypt('a text'))
  await call('decrypt', (totp) => totp.decrypt(value))
  await call('deleteExpired', (totp) => totp.deleteExpired())
  await counting('requestRecovery', async () => {
    await recovery.requestRecovery('ann@example.com')
    await totp.close()
  })
  const canceling = await linkIn()
  await counting('cancelRecovery', () => recovery.cancelRecovery(canceling))
  await recovery.requestRecovery('ann@example.com')
  const confirming = await linkIn()
  await counting('confirmRecovery', () => recovery.confirmRecovery({ ...confirming, password: 'any' }))
  await call('disableTotp', (totp) => totp.disableTotp('bob'))
  await call('forgetUser', (totp) => totp.forgetUser('bob'))

  const timeless = ['isTotpEnabled', 'decrypt']
  const timed = Object.keys(reads).filter((name) => !timeless.includes(name))
  assert.deepEqual(reads, Object.fromEntries([...never(timeless), ...once(timed)]))
  const others = ['within', 'transaction', 'on', 'close']
  assert.deepEqual(
    Object.keys(totp).filter((name) => !(name in reads)),
    others,
  )
})

test('each endpoint reads the clock once, the login and its tokens included', async () => {
  const { totp, tokens, recovery, clock, reads, counting, enroll, linkIn } = await counted()
  let verifiedAt: number | null = null
  let generation: number | undefined
  let sessionId: string | undefined
  const handler = fetchTotp(totp, {
    jwt: tokens,
    recovery,
    caller: () => ({ id: 'ann', accountName: 'ann', verifiedAt, generation, sessionId }),
    onVerified: (proof) => {
      ;({ verifiedAt, generation } = proof)
    },
    clientAddress: () => null,
  })
  const call = async (operationId: keyof typeof endpoints, body: object = {}, id = '') => {
    const { method, path } = endpoints[operationId]
    const url = `http://service.test/api/${path.replace('{id}', id)}/`
    const headers = { 'content-type': 'application/json' }
    const init = method === 'GET' ? { method } : { method, headers, body: JSON.stringify(body) }
    const response = await counting(operationId, () => handler(new Request(url, init)))
    assert.ok(response.ok, `${operationId}: ${response.status} ${response.ok || (await response.text())}`)
    return response.status === 204 ? {} : await response.json()
  }

  const first = await call('createTokens', { username: 'ann', password: 'any' })
  sessionId = (await tokens.verifyAccessToken(`Bearer ${first.access}`))?.sessionId
  const { uri } = await call('createTotpSetup')
  const phone = authenticatorFor(uri)
  const code = () => {
    clock.at += 30
    return phone.codeAt(clock.at)
  }
  const confirmed = await call('confirmTotpSetup', { input_code: code() })
  assert.ok(confirmed.refresh, 'the session is raised in the same request')
  const { totp_challenge_token } = await call('createTokens', { username: 'ann', password: 'any' })
  const verified = { totp_challenge_token, otp_code: code(), trust_device: true }
  const pair = await call('answerChallenge', verified)
  assert.ok(pair.trusted_device)
  await call('verifyToken', { token: pair.access })
  const { refresh } = await call('refreshTokens', { refresh: pair.refresh })
  await call('logout', { refresh })
  await call('verifySecondFactor', { otp_code: code() })
  await call('getStatus')
  await call('listBackupCodes')
  await call('backupCodesSaved')
  await call('rotateBackupCodes', { input_code: code() })
  const { trusted_devices } = await call('listTrustedDevices')
  await call('removeTrustedDevice', {}, trusted_devices[0].id)
  await call('removeTrustedDevices')
  await totp.importAuthenticator('ann', { secret: 'JBSWY3DPEHPK3PXP' })
  const [, imported] = (await totp.getStatus('ann')).authenticators
  await call('renameAuthenticator', { name: 'old phone' }, imported?.id)
  await call('removeAuthenticator', { input_code: code() }, imported?.id)
  await call('requestRecovery', { email: 'ann@example.com' })
  await call('cancelRecovery', await linkIn())
  await recovery.requestRecovery('ann@example.com')
  await call('confirmRecovery', { ...(await linkIn()), password: 'any' })
  ;({ verifiedAt, generation } = (await enroll('ann')).proof)
  await call('disableTotp')

  assert.deepEqual(reads, Object.fromEntries(once(Object.keys(endpoints))))
})

test('a code that arrives slowly is judged by the time at which it has arrived', async () => {
  const { totp, clock, enroll } = await counted()
  const { code } = await enroll('ann')
  const typed = code()
  const handler = fetchTotp(totp, { caller: () => ({ id: 'ann', accountName: 'ann' }) })
  const slowly = {
    pull(controller: ReadableStreamDefaultController) {
      clock.at += 600
      controller.enqueue(new TextEncoder().encode(JSON.stringify({ otp_code: typed })))
      controller.close()
    },
  }
  const body = new ReadableStream(slowly, { highWaterMark: 0 })
  const headers = { 'content-type': 'application/json' }
  const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit
  const response = await handler(new Request('http://service.test/api/totp/verify/', init))

  assert.equal(response.status, 400)
  assert.equal((await response.json()).code, 'invalid_code')
})
