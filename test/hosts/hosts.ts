import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { generateFernetKey } from 'totp-kit'
import { type AuthenticatorApp, authenticatorFor } from 'totp-kit/testing'

/** What a host told of one call. */
interface Told {
  outcome: string
  uri?: string
  backupCodes?: string[]
}

interface Call {
  call: 'enroll' | 'confirm' | 'totp' | 'backup_code'
  userId: string
  code?: string
  /** The time of the call, Unix seconds. */
  at: number
}

/** A process of a host over a database that others share. */
export interface Host {
  /** Rejects when the process is gone before it has told anything. */
  ask(call: Call): Promise<Told>
  kill(): Promise<void>
  end(): Promise<void>
}

export interface HostOptions {
  database: string
  encryptionKey: string
  failures?: object
}

export const hostOptions = (database: string, failures?: object): HostOptions => ({
  database,
  encryptionKey: generateFernetKey(),
  ...(failures ? { failures } : {}),
})

export async function startHost(options: HostOptions): Promise<Host> {
  const child = fork(new URL('./host.mjs', import.meta.url), [JSON.stringify(options)])
  const waiting = new Map<number, { resolve: (told: Told) => void; reject: (error: Error) => void }>()
  let calls = 0
  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', ({ id, ...told }: Told & { id: number | 'ready' }) => {
      if (id === 'ready') return resolve()
      waiting.get(id)?.resolve(told)
      waiting.delete(id)
    })
    child.on('exit', () => {
      const gone = new Error('the host is gone')
      reject(gone)
      for (const { reject } of waiting.values()) reject(gone)
      waiting.clear()
    })
  })
  await ready
  return {
    ask: (call) =>
      new Promise((resolve, reject) => {
        const id = ++calls
        waiting.set(id, { resolve, reject })
        child.send({ id, ...call }, (error) => error && reject(new Error('the host is gone')))
      }),
    kill: () => exited(child, () => child.kill('SIGKILL')),
    end: () => exited(child, () => child.disconnect()),
  }
}

async function exited(child: ChildProcess, leave: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  leave()
  await gone
}

/** A user whose second factor is on. */
export interface EnrolledPerson {
  userId: string
  phone: AuthenticatorApp
  backupCodes: string[]
}

export async function enrollBy(host: Host, userId: string, at: number): Promise<EnrolledPerson> {
  const { uri = '' } = await host.ask({ call: 'enroll', userId, at })
  const phone = authenticatorFor(uri)
  const { backupCodes = [] } = await host.ask({ call: 'confirm', userId, at, code: phone.codeAt(at) })
  return { userId, phone, backupCodes }
}

/** A code that the app shows at no time near `at`. */
export function wrongCodeAt(phone: AuthenticatorApp, at: number, n = 0): string {
  const near = new Set(Array.from({ length: 41 }, (_, step) => phone.codeAt(at + (step - 20) * 30)))
  for (let code = n % 1_000_000; ; code = (code + 1) % 1_000_000) {
    const text = String(code).padStart(6, '0')
    if (!near.has(text)) return text
  }
}
