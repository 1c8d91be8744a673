import type { Me } from './api.ts'
import { confirmed, withStepUp } from './dialogs.ts'

/** How long a second factor counts as fresh: the server's default. A wrong guess here only asks once more. */
const FRESH_FOR_SECONDS = 300

/** What a person reads before something that cannot be taken back. */
export interface Deed {
  question: string
  consequence: string
  /** `data-action` and label of the button that says yes. */
  action: string
  label: string
  /** Why a code is asked for. */
  reason: string
}

/**
 * Never on one click: where the server would not ask for a code, the page asks whether it is meant.
 * Null when the person thought better of it.
 */
export async function deliberately(
  me: Me,
  { question, consequence, action, label, reason }: Deed,
  call: (code?: string) => Promise<unknown>,
): Promise<true | null> {
  const done = (code?: string) => call(code).then(() => true as const)
  if (!isFresh(me)) return withStepUp(reason, done, { asksFirst: true })
  return (await confirmed(question, consequence, action, label)) ? withStepUp(reason, done) : null
}

function isFresh({ amr, auth_time }: Me): boolean {
  const provedAtMs = typeof auth_time === 'number' ? auth_time * 1000 : Date.parse(auth_time)
  return amr.includes('mfa') && Date.now() - provedAtMs < FRESH_FOR_SECONDS * 1000
}
