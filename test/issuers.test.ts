import { SignJWT } from 'jose'
import { createTotp, generateFernetKey, type TotpStore } from 'totp-kit'
import { jwtTokens } from 'totp-kit/jwt'
import type { Notification } from 'totp-kit/mail'
import { accountRecovery } from 'totp-kit/recovery'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { describe, expect, test } from 'vitest'
import { createKeyring } from '../src/crypto/keyring.ts'
import { contextOf } from '../src/flows/context.ts'
import { enrollmentCaller } from '../src/flows/enforcement.ts'

const NOON = 1_800_000_000
const KEY = generateFernetKey()

/** A service with all modules, in which users must have a second factor. */
async function serviceOf(issuer: string, store: TotpStore, clock = fakeClock(NOON)) {
  const links: Notification[] = []
  const totp = await createTotp({
    issuer,
    encryptionKey: KEY,
    store: { ...store, close: async () => undefined },
    clock: clock.now,
    findUser: (id) => ({ id }),
    enforcement: { required: () => true, accountName: (user: { id: string }) => user.id },
    trustedDevices: { days: 30 },
  })
  const recovery = accountRecovery(totp, {
    findAccount: async (email) => ({ userId: 'ann', email }),
    addressesOf: async () => ['ann@example.com', 'ann@home.example'],
    checkPassword: async () => true,
    send: async (notice) => void links.push(notice),
    pageUrl: 'https://app.example/recover',
  })
  const tokens = jwtTokens(totp, { authenticate: async () => 'ann' })
  const enroll = async () => {
    const { uri } = await totp.createTotpSetup({ id: 'ann', accountName: 'ann' })
    const phone = authenticatorFor(uri)
    return { phone, backupCodes: (await totp.confirmTotpSetup('ann', phone.codeAt(clock.now()))).backupCodes ?? [] }
  }
  /** The links that a request for recovery mails, as they are posted: to confirm, and to cancel only. */
  const recoveryLinks = async () => {
    await recovery.requestRecovery('ann@example.com')
    await totp.close()
    return ['recovery_link', 'recovery_requested'].map((kind) => {
      const notice = links.findLast((notice) => notice.kind === kind)
      const said = new URLSearchParams(new URL(notice && 'url' in notice ? notice.url : '').hash.slice(1))
      return { uid: String(said.get('uid')), token: String(said.get('token')) }
    }) as [{ uid: string; token: string }, { uid: string; token: string }]
  }
  const opensEnrollment = (token: string) => enrollmentCaller(contextOf(totp), `Bearer ${token}`, clock.now())
  return { totp, tokens, recovery, clock, enroll, recoveryLinks, opensEnrollment }
}

type Service = Awaited<ReturnType<typeof serviceOf>>

describe.each([
  { stores: 'a store', open: () => Array<TotpStore>(2).fill(memoryStore()) as [TotpStore, TotpStore] },
  { stores: 'no store', open: (): [TotpStore, TotpStore] => [memoryStore(), memoryStore()] },
])('two services that share an encryption key and $stores', ({ open }) => {
  test("do not accept each other's tokens when their issuers differ", async () => {
    const [one, other] = open()
    const staging = await serviceOf('Acme staging', one)
    const production = await serviceOf('Acme', other)
    const enrollmentToken = await enrollmentTokenOf(staging)
    expect(await production.opensEnrollment(enrollmentToken)).toBeNull()
    expect(await staging.opensEnrollment(enrollmentToken)).toMatchObject({ id: 'ann' })
    const { backupCodes } = await staging.enroll()
    // Two stores hold the same: times, generations and phones would tell nothing apart.
    if (one !== other) await production.enroll()

    const proof = await staging.totp.verifyBackupCode('ann', String(backupCodes[0]))
    const session = await staging.tokens.issueTokens(proof)
    const challenge = await staging.totp.generateChallengeToken('ann')
    const device = String(await staging.totp.trustDevice(proof))
    const [link, cancelLink] = await staging.recoveryLinks()

    expect(await production.tokens.verifyAccessToken(`Bearer ${session.access}`)).toBeNull()
    await expect(production.tokens.verifyToken(session.access)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(production.tokens.verifyToken(session.refresh)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(production.tokens.refreshTokens(session.refresh)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(production.tokens.logout(session.refresh)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(production.totp.verifyChallengeToken(challenge)).rejects.toMatchObject({ code: 'challenge_invalid' })
    expect(await production.totp.startLogin('ann', { trustedDevice: device })).toHaveProperty('challengeToken')
    const invalid = { code: 'recovery_link_invalid' }
    await expect(production.recovery.confirmRecovery({ ...link, password: 'any' })).rejects.toMatchObject(invalid)
    await expect(production.recovery.cancelRecovery(link)).rejects.toMatchObject(invalid)
    await expect(production.recovery.cancelRecovery(cancelLink)).rejects.toMatchObject(invalid)

    // None of that used them up where they belong.
    expect(await staging.tokens.verifyAccessToken(`Bearer ${session.access}`)).toMatchObject({ id: 'ann' })
    await staging.tokens.refreshTokens(session.refresh)
    expect(await staging.totp.verifyChallengeToken(challenge)).toBe('ann')
    expect(await staging.totp.startLogin('ann', { trustedDevice: device })).toHaveProperty('proof')
    await staging.recovery.cancelRecovery(cancelLink)
  })
})

test('a service whose issuer changes opens what it stored before: secrets and backup codes', async () => {
  const store = memoryStore()
  const before = await serviceOf('Acme', store)
  const { phone, backupCodes } = await before.enroll()
  const sealed = before.totp.encrypt('a text')

  const after = await serviceOf('Acme Inc.', store)

  before.clock.advance(30)
  after.clock.advance(30)
  await after.totp.verifyTotpCode('ann', phone.codeAt(after.clock.now()))
  await after.totp.verifyBackupCode('ann', String(backupCodes[0]))
  expect((await after.totp.listBackupCodes('ann')).map(({ code }) => code).sort()).toEqual(backupCodes.toSorted())
  expect(after.totp.decrypt(sealed)).toBe('a text')
})

test("two processes of one service, with one issuer, accept each other's tokens", async () => {
  const store = memoryStore()
  const [one, other] = [await serviceOf('Acme', store), await serviceOf(' Acme ', store)]
  const { backupCodes } = await one.enroll()

  const session = await one.tokens.issueTokens(await one.totp.verifyBackupCode('ann', String(backupCodes[0])))

  expect(await other.tokens.verifyAccessToken(`Bearer ${session.access}`)).toMatchObject({ id: 'ann' })
  expect(await other.totp.verifyChallengeToken(await one.totp.generateChallengeToken('ann'))).toBe('ann')
})

test('a token of the session names its issuer, and one that names no or another issuer is refused', async () => {
  const service = await serviceOf('Acme', memoryStore())
  const { backupCodes } = await service.enroll()
  const proof = await service.totp.verifyBackupCode('ann', String(backupCodes[0]))
  const { access, refresh } = await service.tokens.issueTokens(proof)
  const claimsOf = (token: string) => JSON.parse(Buffer.from(String(token.split('.')[1]), 'base64url').toString())
  const [key] = createKeyring([KEY]).deriveMacKeys('jwt/Acme')
  const signed = (claims: object) =>
    new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' }).sign(key as NonNullable<typeof key>)
  const { iss, ...nameless } = claimsOf(access)

  expect(iss).toBe('Acme')
  expect(claimsOf(refresh).iss).toBe('Acme')
  expect(await service.tokens.verifyAccessToken(`Bearer ${await signed({ ...nameless, iss })}`)).not.toBeNull()
  for (const claims of [nameless, { ...nameless, iss: 'Acme staging' }, { ...nameless, iss: '' }]) {
    expect(await service.tokens.verifyAccessToken(`Bearer ${await signed(claims)}`)).toBeNull()
  }
})

async function enrollmentTokenOf({ totp }: Service): Promise<string> {
  const login = await totp.startLogin('ann')
  return 'enrollmentToken' in login ? String(login.enrollmentToken) : ''
}
