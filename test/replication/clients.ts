import { generateTotpSecret } from 'totp-kit'
import { authenticatorFor } from 'totp-kit/testing'

export type Kind = 'app code' | 'backup code' | 'challenge token' | 'refresh token'

/** Something that is good for one success, which a client has sent. */
export interface Used {
  kind: Kind
  userId: string
  /** The stage of the test in which the host accepted it first; null: a 503, and a refusal when it was sent again. */
  accepted: string | null
  /** How often the host accepted it. More than once is what must not be. */
  acceptances: number
  /** An answer before that was a 503: it may have been used then. */
  wasUnavailable: boolean
  /** Sends it again, in a new login where it is a code, and says what the answer was. */
  replay(): Promise<string>
}

export interface Person {
  id: string
  secret: string
  codeAt(at: number): string
  /** For logins. */
  backupCodes: string[]
  /** For the replay of a challenge token, which takes an unused code to be a fair try. */
  spareCode: string
}

interface Session {
  person: Person
  refresh: string
}

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: a test reads whatever members it expects
  body: any
  /** An answer before this one was a 503: what was sent may have been used then. */
  wasUnavailable: boolean
}

/** How long a client waits after a 503. `Retry-After` says five seconds; who waits less asks more often. */
const PAUSE_MS = 100

/** Every login refreshes the session that began so many logins ago. */
const SESSIONS_BETWEEN = 30

export function people(count: number): Person[] {
  return Array.from({ length: count }, (_, n) => {
    const id = `user-${n}`
    const secret = generateTotpSecret()
    const { codeAt } = authenticatorFor(`otpauth://totp/Acme:${id}?secret=${secret}`)
    const code = (name: string) => `${name}-${n}-of-this-user`
    return { id, secret, codeAt, backupCodes: ['first', 'second', 'third'].map(code), spareCode: code('spare') }
  })
}

/**
 * The clients of a host with several processes. They go on until they are logged in, whatever happens to the host.
 *
 * @param startedAt - by the clock of the host, Unix seconds
 */
export function clientsOf(ports: number[], startedAt: number) {
  const used: Used[] = []
  const sessions: Session[] = []
  /** Answers that no client can make sense of. */
  const wrong: string[] = []
  /** Whose session ended though nobody ended it. */
  const loggedOut: string[] = []
  let stage = 'before'
  let unavailable = 0
  let calls = 0

  async function ask(path: string, body: object): Promise<Answer> {
    for (let wasUnavailable = false; ; wasUnavailable = true) {
      const port = ports[calls++ % ports.length]
      const response = await fetch(`http://127.0.0.1:${port}/api/${path}/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      const { status, headers } = response
      const answer = await response.json()
      if (status !== 503) {
        if (status !== 200 && status !== 400 && status !== 401) wrong.push(`${status} ${JSON.stringify(answer)}`)
        return { status, body: answer, wasUnavailable }
      }
      unavailable++
      if (answer.code !== 'unavailable' || !(Number(headers.get('retry-after')) > 0) || 'access' in answer) {
        wrong.push(JSON.stringify(answer))
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    }
  }

  const outcomeOf = ({ status, body }: Answer): string => (status === 200 ? 'accepted' : body.code)

  async function challengeOf({ id }: Person): Promise<string> {
    const { body } = await ask('jwt/create', { username: id, password: `of ${id}` })
    return body.totp_challenge_token
  }

  const verify = (token: string, code: object) => ask('jwt/totp/verify', { totp_challenge_token: token, ...code })

  function note(kind: Kind, { id }: Person, { status, wasUnavailable }: Answer, send: () => Promise<Answer>): void {
    const isAccepted = status === 200
    const entry: Used = {
      kind,
      userId: id,
      accepted: isAccepted ? stage : null,
      acceptances: isAccepted ? 1 : 0,
      wasUnavailable,
      async replay() {
        const outcome = outcomeOf(await send())
        if (outcome === 'accepted') entry.acceptances++
        return outcome
      },
    }
    used.push(entry)
  }

  /** With a code of the app or with a backup code; where the first one was used up by an answer that was lost, the next. */
  async function logIn(person: Person): Promise<void> {
    const appCodes =
      person.id.endsWith('0') || person.id.endsWith('5') ? [] : [{ otp_code: person.codeAt(startedAt + 30) }]
    const codes = [...appCodes, ...person.backupCodes.map((backup_code) => ({ backup_code }))]
    let challenge = await challengeOf(person)
    for (const code of codes) {
      const answer = await verify(challenge, code)
      const isAccepted = answer.status === 200
      const kind = 'otp_code' in code ? 'app code' : 'backup code'
      if (!isAccepted && !answer.wasUnavailable) wrong.push(`${person.id}: a new ${kind} was ${outcomeOf(answer)}`)
      const token = challenge
      note('challenge token', person, answer, () => verify(token, { backup_code: person.spareCode }))
      note(kind, person, answer, async () => verify(await challengeOf(person), code))
      if (isAccepted) {
        sessions.push({ person, refresh: answer.body.refresh })
        return
      }
      challenge = await challengeOf(person)
    }
    wrong.push(`${person.id} ran out of codes`)
  }

  async function refresh({ person, refresh }: Session): Promise<void> {
    const send = () => ask('jwt/refresh', { refresh })
    const answer = await send()
    const isAccepted = answer.status === 200
    if (!isAccepted && !answer.wasUnavailable) loggedOut.push(person.id)
    else note('refresh token', person, answer, send)
  }

  return {
    used,
    sessions,
    wrong,
    loggedOut,
    /** How many answers were a 503. */
    unavailable: () => unavailable,
    enterStage(next: string) {
      stage = next
    },
    /** All of them log in, so many at a time. */
    async logInAll(everybody: Person[], atOnce: number): Promise<void> {
      await inTurns(everybody, atOnce, async (person) => {
        await logIn(person)
        const earlier = sessions[sessions.length - 1 - SESSIONS_BETWEEN]
        if (earlier) await refresh(earlier)
      })
    },
  }
}

/** Sends all of it again. @returns each outcome that there was, with kind and stage */
export async function replayAll(entries: readonly Used[], atOnce: number): Promise<string[]> {
  const outcomes = new Set<string>()
  await inTurns(entries, atOnce, async (entry) => {
    const outcome = await entry.replay()
    outcomes.add(`${entry.kind} accepted ${entry.accepted ?? 'perhaps'}: ${outcome}`)
  })
  return [...outcomes].sort()
}

export async function inTurns<T>(list: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const left = list.values()
  const worker = async () => {
    for (const item of left) await work(item)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}
