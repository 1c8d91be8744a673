import type { Proof, Totp } from 'totp-kit'
import type { ModelSession } from './model.ts'

/** What a host keeps of a session, in its table or in a cookie that it has signed. */
interface Kept {
  id: string
  userId: string
  amr: readonly string[]
  verifiedAt: number | null
  generation: number
}

/** The host's own sessions, written as the README says: some in a table, some in cookies that nobody can take back. */
export class Host {
  private readonly table = new Map<string, Kept>()
  private made = 0

  /** @returns the header `Authorization` of the session */
  begin(kind: 'stateful' | 'stateless', proof: Proof): string {
    const { userId, amr } = proof
    const kept = { id: `session ${++this.made}`, userId, amr, ...this.levelOf(proof) }
    if (kind === 'stateless') return cookieOf(kept)
    this.table.set(kept.id, kept)
    return `Session ${kept.id}`
  }

  /** Null: this is no session of ours that is alive. */
  callerOf(header: string | null) {
    const kept = this.find(header)
    if (kept === null) return null
    const { id, userId, amr, verifiedAt, generation } = kept
    return { id: userId, accountName: 'someone', amr, verifiedAt, generation, sessionId: id }
  }

  /** `totp/verify` proved a second factor. @returns the session's header from now on */
  verified(header: string, proof: Proof): string {
    const kept = this.find(header)
    if (kept === null) return header
    Object.assign(kept, this.levelOf(proof))
    return header.startsWith('Cookie ') ? cookieOf(kept) : header
  }

  /** Ends what this host can end, when it is told. */
  listenTo(totp: Totp<never>): void {
    const end = (userId: string, keptId: string | null) => {
      for (const { id, userId: owner } of this.table.values()) {
        if (owner === userId && id !== keptId) this.table.delete(id)
      }
    }
    totp.on('sessions.ended', ({ userId, keptSessionId }) => end(userId, keptSessionId), { awaited: true })
  }

  isAlive({ credential }: ModelSession): boolean {
    return this.find(credential) !== null
  }

  private levelOf({ amr, verifiedAt, generation }: Proof) {
    return { verifiedAt: amr.includes('mfa') ? verifiedAt : null, generation }
  }

  private find(header: string | null): Kept | null {
    const [scheme, value = ''] = header?.split(/ (.*)/s) ?? []
    if (scheme === 'Session') return this.table.get(value) ?? null
    return scheme === 'Cookie' ? (JSON.parse(Buffer.from(value, 'base64url').toString()) as Kept) : null
  }
}

/** Signed, in a real host. Here nobody forges one. */
function cookieOf(kept: Kept): string {
  return `Cookie ${Buffer.from(JSON.stringify(kept)).toString('base64url')}`
}
