import { randomUUID } from 'node:crypto'
import { contextOf } from '../../../src/flows/context.ts'
import {
  beginEnrollment,
  challenge,
  type Enrolled,
  enroll,
  linkIn,
  logIn,
  nextCode,
  sessionIn,
  wrongCode,
} from '../actors.ts'
import type { Answer } from '../answer.ts'
import type { Person, Service } from '../harness.ts'

/** What a path accepts. */
type Takes = 'app code' | 'backup code' | 'token'

/** A way into the service that accepts a code or a token. */
export interface Path {
  name: string
  takes: Takes
  /** Success. */
  good: string
  /** The value is used up by a success. */
  once: boolean
  /** Prepares one user's use of the path. */
  prepare(service: Service, username?: string): Promise<Use>
}

/** One user before the path. */
export interface Use {
  person: Person
  /** The user's phone and codes, where there is an enrollment. */
  enrolled: Enrolled | null
  /** A value that is right now; another one at each call. */
  fresh(): Promise<string>
  /** One that is wrong, of the right shape. */
  wrong(): string
  /** Sends a value, of whatever type; `via` another process of the same host. */
  send(value: unknown, via?: Service): Promise<Answer>
  /** A good code of the user's that belongs into another field; null where the field takes both kinds. */
  otherCode?: () => string
}

const WRONG_BACKUP_CODE = 'AAAA-AAAA-AAAA-AAAA'

/** A path where the caller gives a code with the request. */
function stepUp(
  name: string,
  good: string,
  call: (service: Service, bearer: string, input_code: unknown, enrolled: Enrolled) => Promise<Answer>,
): Path[] {
  const prepare = (takes: Takes) => async (service: Service, username?: string) => {
    const enrolled = await enroll(service, username)
    // The session has the password only: the code must be given with each request.
    const send: Use['send'] = (code, via = service) => call(via, enrolled.session.access, code, enrolled)
    return useOf(service, enrolled, takes, send)
  }
  return (['app code', 'backup code'] as const).map((takes) => ({
    name: `${name}, ${takes}`,
    takes,
    good,
    once: true,
    prepare: prepare(takes),
  }))
}

function useOf(service: Service, enrolled: Enrolled, takes: Takes, send: Use['send']): Use {
  const codes = [...enrolled.backupCodes]
  const isApp = takes === 'app code'
  return {
    person: enrolled.person,
    enrolled,
    fresh: async () => (isApp ? nextCode(service, enrolled.phone) : String(codes.shift())),
    wrong: () => (isApp ? wrongCode(service, enrolled.phone) : WRONG_BACKUP_CODE),
    send,
  }
}

const otherCode =
  ({ clock }: Service, { phone, backupCodes }: Enrolled, takes: Takes) =>
  () =>
    takes === 'app code' ? String(backupCodes[0]) : phone.codeAt(clock.now())

const member = (takes: Takes) => (takes === 'app code' ? 'otp_code' : 'backup_code')

const codePaths: Path[] = [
  ...(['app code', 'backup code'] as const).map(
    (takes): Path => ({
      name: `POST jwt/totp/verify, ${takes}`,
      takes,
      good: '200',
      once: true,
      async prepare(service, username) {
        const enrolled = await enroll(service, username)
        const { id } = enrolled.person
        let totp_challenge_token = await service.totp.generateChallengeToken(id)
        const use = useOf(service, enrolled, takes, async (code, via = service) => {
          const answer = await via.post('jwt/totp/verify/', { totp_challenge_token, [member(takes)]: code })
          if (answer.status === 200) totp_challenge_token = await service.totp.generateChallengeToken(id)
          return answer
        })
        return { ...use, otherCode: otherCode(service, enrolled, takes) }
      },
    }),
  ),
  ...(['app code', 'backup code'] as const).map(
    (takes): Path => ({
      name: `POST totp/verify, ${takes}`,
      takes,
      good: '200',
      once: true,
      async prepare(service, username) {
        const enrolled = await enroll(service, username)
        const { access } = enrolled.session
        const use = useOf(service, enrolled, takes, (code, via = service) =>
          via.post('totp/verify/', { [member(takes)]: code }, access),
        )
        return { ...use, otherCode: otherCode(service, enrolled, takes) }
      },
    }),
  ),
  {
    name: 'POST totp/confirm, app code',
    takes: 'app code',
    good: '200',
    once: true,
    async prepare(service, username = 'alice') {
      const person = service.register(username)
      const { access } = await logIn(service, person)
      const phone = await beginEnrollment(service, access)
      return {
        person,
        enrolled: null,
        fresh: async () => nextCode(service, phone),
        wrong: () => wrongCode(service, phone),
        send: (code, via = service) => via.post('totp/confirm/', { input_code: code }, access),
      }
    },
  },
  ...stepUp('POST totp/create', '201', (service, bearer, input_code) =>
    service.post('totp/create/', { input_code }, bearer),
  ),
  ...stepUp('POST totp/disable', '204', (service, bearer, input_code) =>
    service.post('totp/disable/', { input_code }, bearer),
  ),
  ...stepUp('POST totp/rotate_backup_codes', '200', (service, bearer, input_code) =>
    service.post('totp/rotate_backup_codes/', { input_code }, bearer),
  ),
  ...stepUp(
    'DELETE totp/authenticators/{id}',
    '400 validation_failed',
    async (service, bearer, input_code, enrolled) => {
      const { authenticators } = await service.totp.getStatus(enrolled.person.id)
      const path = `totp/authenticators/${authenticators[0]?.id ?? 'gone'}/`
      const answer = await service.call({ method: 'DELETE', path, json: { input_code }, bearer })
      // The last one is never removed: that this is what is said shows that the code was taken.
      const isTypeError = answer.outcome === '400 validation_failed' && !('id' in (answer.body.errors as object))
      return isTypeError ? { ...answer, outcome: '400 wrong type' } : answer
    },
  ),
  ...stepUp('DELETE totp/trusted_devices/{id}', '204', async (service, bearer, input_code, { person }) => {
    // A device of its own for each call: for one that is not there no code is judged.
    const { store } = contextOf(service.totp)
    const [id, now] = [randomUUID(), service.clock.now()]
    const times = { createdAt: now, lastUsedAt: now, expiresAt: now + 86_400 }
    const { generation } = await store.getUser(person.id)
    await store.keepTrustedDevice({ id, userId: person.id, name: null, tokenDigest: id, ...times }, generation)
    return service.call({ method: 'DELETE', path: `totp/trusted_devices/${id}/`, json: { input_code }, bearer })
  }),
]

const notAToken = () => 'not-a-token'

const tokenPaths: Path[] = [
  {
    name: 'POST jwt/totp/verify, challenge',
    takes: 'token',
    good: '200',
    once: true,
    async prepare(service, username) {
      const enrolled = await enroll(service, username)
      let unused = enrolled.backupCodes
      let sent = 0
      return {
        person: enrolled.person,
        enrolled,
        fresh: () => challenge(service, enrolled.person),
        wrong: notAToken,
        // Each time with another good code: the token alone must decide.
        async send(totp_challenge_token) {
          const backup_code = unused[sent++ % unused.length]
          const answer = await service.post('jwt/totp/verify/', { totp_challenge_token, backup_code })
          if (answer.status === 200) unused = unused.filter((code) => code !== backup_code)
          return answer
        },
      }
    },
  },
  {
    name: 'POST jwt/create, trusted device',
    takes: 'token',
    good: '200',
    once: true,
    async prepare(service, username) {
      const enrolled = await enroll(service, username)
      const { person } = enrolled
      return {
        person,
        enrolled,
        async fresh() {
          const totp_challenge_token = await challenge(service, person)
          const answer = { totp_challenge_token, otp_code: nextCode(service, enrolled.phone), trust_device: true }
          return String((await service.post('jwt/totp/verify/', answer)).body.trusted_device)
        },
        wrong: notAToken,
        async send(trusted_device) {
          const { password } = person
          const answer = await service.post('jwt/create/', { username: person.username, password, trusted_device })
          // Not believed means asked for a code: no error, and no session either.
          return answer.body.is_totp_enabled === true ? { ...answer, outcome: 'asked for a code' } : answer
        },
      }
    },
  },
  ...(
    [
      { name: 'POST jwt/refresh', kind: 'refresh', good: '200', once: true },
      { name: 'POST jwt/verify, access token', kind: 'access', good: '200', once: false },
      { name: 'POST jwt/verify, refresh token', kind: 'refresh', good: '200', once: false },
      { name: 'POST jwt/logout', kind: 'refresh', good: '204', once: false },
    ] as const
  ).map(
    ({ name, kind, good, once }): Path => ({
      name,
      takes: 'token',
      good,
      once,
      async prepare(service, username = 'alice') {
        const person = service.register(username)
        const [path = ''] = name.replace('POST ', '').split(',')
        const member = path === 'jwt/verify' ? 'token' : 'refresh'
        return {
          person,
          enrolled: null,
          fresh: async () => (await logIn(service, person))[kind],
          wrong: notAToken,
          send: (token) => service.post(`${path}/`, { [member]: token }),
        }
      },
    }),
  ),
  ...(['confirm', 'cancel'] as const).map(
    (act): Path => ({
      name: `POST totp/recovery_${act}`,
      takes: 'token',
      good: '204',
      once: true,
      async prepare(service, username) {
        const enrolled = await enroll(service, username)
        const { person } = enrolled
        const uid = Buffer.from(person.id).toString('base64url')
        return {
          person,
          enrolled,
          async fresh() {
            const before = service.mails.length
            await service.post('totp/recovery/', { email: person.email })
            await service.mailed(before + 1)
            return linkIn(service.mails[before] as (typeof service.mails)[number]).token
          },
          wrong: notAToken,
          send: (token) =>
            service.post(`totp/recovery_${act}/`, {
              uid,
              token,
              ...(act === 'confirm' ? { password: person.password } : {}),
            }),
        }
      },
    }),
  ),
  {
    name: 'POST totp/create, enrollment token',
    takes: 'token',
    good: '201',
    once: false,
    async prepare(service, username = 'must-enroll') {
      const person = service.register(username)
      const { password } = person
      return {
        person,
        enrolled: null,
        fresh: async () =>
          String((await service.post('jwt/create/', { username: person.username, password })).body.enrollment_token),
        wrong: notAToken,
        send: (token) => service.post('totp/create/', undefined, String(token)),
      }
    },
  },
]

export const paths: readonly Path[] = [...codePaths, ...tokenPaths]

/** One token of each kind, all of one user: what a path is shown in the place of its own. */
export async function oneOfEachKind(service: Service): Promise<Record<string, string>> {
  const enrolled = await enroll(service, 'kinds')
  const { person } = enrolled
  const login = await challenge(service, person)
  const answer = { totp_challenge_token: login, otp_code: nextCode(service, enrolled.phone), trust_device: true }
  const { body } = await service.post('jwt/totp/verify/', answer)
  const before = service.mails.length
  await service.post('totp/recovery/', { email: person.email })
  await service.mailed(before + 1)
  const mail = service.mails[before] as (typeof service.mails)[number]
  const must = service.register('must-enroll-kind')
  const enrolling = await service.post('jwt/create/', { username: must.username, password: must.password })
  return {
    challenge: await challenge(service, person),
    'trusted device': String(body.trusted_device),
    access: sessionIn(body).access,
    refresh: sessionIn(body).refresh,
    recovery: linkIn(mail).token,
    enrollment: String(enrolling.body.enrollment_token),
    'app code': nextCode(service, enrolled.phone),
    'backup code': String(enrolled.backupCodes[0]),
    'a value sealed by the host': service.totp.encrypt(JSON.stringify(['id', person.id, 1])),
  }
}
