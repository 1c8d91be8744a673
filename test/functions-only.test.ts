import { createTotp, generateFernetKey, type Proof, TotpError } from 'totp-kit'
import { memoryStore } from 'totp-kit/store/memory'
import { authenticatorFor, fakeClock } from 'totp-kit/testing'
import { expect, test } from 'vitest'
import { readText } from './markdown.ts'

const NOON = 1_800_000_000
const clock = fakeClock(NOON)

// The host begins: procedures over a context, as tRPC has them. Its users are texts, its guard is a function.
interface Session {
  userId: string
  amr: readonly string[]
  verifiedAt: number | null
  generation: number
}
interface Ctx {
  session: Session | null
}

const mustEnroll = new Set(['bob'])
const totp = await createTotp<string>({
  issuer: 'Acme',
  encryptionKey: generateFernetKey(),
  store: memoryStore(),
  findUser: (userId) => userId,
  enforcement: { required: (user) => mustEnroll.has(user), accountName: (user) => user },
  clock: clock.now,
})

const callerOf = ({ session }: Ctx) => session && { ...session, id: session.userId, accountName: session.userId }
const known = (ctx: Ctx) => {
  if (ctx.session === null) throw new TotpError('unauthenticated')
  return ctx.session
}
const raise = (ctx: Ctx, { userId, amr, verifiedAt, generation }: Proof) => {
  ctx.session = { userId, amr, verifiedAt: amr.includes('mfa') ? verifiedAt : null, generation }
}

const setUp = (id: string) => totp.createTotpSetup({ id, accountName: id })

const router = {
  async login(ctx: Ctx, userId: string) {
    const login = await totp.startLogin(userId)
    if (login.status === 'complete') raise(ctx, login.proof)
    return login.status === 'complete' ? { status: login.status } : login
  },
  answer: async (ctx: Ctx, token: string, code: string) => raise(ctx, await totp.answerChallenge(token, code)),
  enroll: async (ctx: Ctx, inputCode?: string) => {
    const proof = await totp.permitChange(callerOf(ctx), inputCode)
    if (proof) raise(ctx, proof)
    return setUp(known(ctx).userId)
  },
  confirm: async (ctx: Ctx, code: string) => {
    const { backupCodes, proof } = await totp.confirmTotpSetup(known(ctx).userId, code, known(ctx))
    raise(ctx, proof)
    return backupCodes
  },
  enrollWith: async (token: string) => setUp(await totp.verifyEnrollmentToken(token)),
  confirmWith: async (ctx: Ctx, token: string, code: string) =>
    raise(ctx, (await totp.confirmTotpSetup(await totp.verifyEnrollmentToken(token), code)).proof),
  stepUp: async (ctx: Ctx, code: string) => raise(ctx, await totp.verifyTotpCode(known(ctx).userId, code, known(ctx))),
  vault: async (ctx: Ctx) => {
    await totp.requireFresh(callerOf(ctx), { maxAgeSeconds: 300 })
    return 'gold'
  },
  disable: async (ctx: Ctx, inputCode?: string) => {
    await totp.permitChange(callerOf(ctx), inputCode)
    await totp.disableTotp(known(ctx).userId)
  },
}
// The host ends.

test('a host without any adapter enrolls, logs in, steps up, disables and enforces, in under 60 lines', async () => {
  const [, host = ''] = readText('test/functions-only.test.ts').split(/^\/\/ The host (?:begins|ends).*$/m)
  expect(host.split('\n').filter((line) => line.trim() !== '').length).toBeLessThan(60)

  const ctx: Ctx = { session: null }
  await expect(router.vault(ctx)).rejects.toMatchObject({ status: 401, code: 'unauthenticated' })
  expect(await router.login(ctx, 'ann')).toEqual({ status: 'complete' })
  await expect(router.vault(ctx)).rejects.toMatchObject({ status: 403, code: 'second_factor_required' })

  const phone = authenticatorFor((await router.enroll(ctx)).uri)
  const nextCode = () => {
    clock.advance(30)
    return phone.codeAt(clock.now())
  }
  expect(await router.confirm(ctx, phone.codeAt(clock.now()))).toHaveLength(10)
  expect(await router.vault(ctx)).toBe('gold')

  const other: Ctx = { session: null }
  const login = await router.login(other, 'ann')
  if (login.status !== 'challenge') throw new Error('no code was asked for')
  await router.answer(other, login.challengeToken, nextCode())
  expect(await router.vault(other)).toBe('gold')

  clock.advance(301)
  await expect(router.vault(other)).rejects.toMatchObject({ status: 401, code: 'step_up_required' })
  await expect(router.disable(other)).rejects.toMatchObject({ code: 'step_up_required' })
  await router.stepUp(other, nextCode())
  expect(await router.vault(other)).toBe('gold')

  await router.disable(other)
  expect(await totp.isTotpEnabled('ann')).toBe(false)

  const bob: Ctx = { session: null }
  const enrolling = await router.login(bob, 'bob')
  if (enrolling.status !== 'enrollment_required') throw new Error('nobody made Bob enroll')
  const bobsPhone = authenticatorFor((await router.enrollWith(enrolling.enrollmentToken)).uri)
  await router.confirmWith(bob, enrolling.enrollmentToken, bobsPhone.codeAt(clock.now()))
  expect(await router.vault(bob)).toBe('gold')
  await expect(router.enrollWith(enrolling.enrollmentToken)).rejects.toMatchObject({ code: 'unauthenticated' })
})
