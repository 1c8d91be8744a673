import type { App, View } from '../app.ts'
import { codeField } from '../code-field.ts'
import { el, linkButton } from '../dom.ts'
import { form } from '../form.ts'
import { Refusal } from '../refusal.ts'
import { trustChoice } from '../trust-choice.ts'
import { type Challenge, forgetUnfinished, keepUnfinished } from '../unfinished.ts'
import { CHALLENGE_OVER, count, countdown } from '../wording.ts'

/** What a renewed challenge outlives the wait by, where the server does not say when it expires. */
const AFTER_WAIT_SECONDS = 60

/** The second step of a login. */
export function challengeView(app: App, given: Challenge): View {
  let challenge = given
  const { username, digits, acceptsBackupCode, trustedDeviceDays } = challenge
  const heading = el('h1', { tabindex: '-1' }, 'Enter your code')
  const code = codeField({ digits, acceptsBackupCode, sendsItself: true })
  const trust = trustedDeviceDays === null ? null : trustChoice(trustedDeviceDays)
  const timeLeft = el('span', { 'data-time-left': true })
  keepUnfinished(challenge)

  async function submit(): Promise<void> {
    try {
      const deviceName = trust?.trustedName() ?? null
      const codesLeft = await app.api.answerChallenge(challenge, code.kind(), code.code(), deviceName)
      app.toAccount(codesLeft === null ? {} : { notice: usedOne(codesLeft) })
    } catch (error) {
      if (error instanceof Refusal && error.code === 'challenge_invalid') return startOver()
      throw error
    }
  }

  function refused(refusal: Refusal): void {
    code.refused(refusal)
    const { renewedChallenge, retryAfterSeconds } = refusal
    if (renewedChallenge === null) return
    const { token, expiresInSeconds } = renewedChallenge
    const seconds = expiresInSeconds ?? (retryAfterSeconds ?? 0) + AFTER_WAIT_SECONDS
    const expiresAtMs = Math.max(challenge.expiresAtMs, Date.now() + seconds * 1000)
    challenge = { ...challenge, token, expiresAtMs }
    keepUnfinished(challenge)
    tick()
  }

  function startOver(): void {
    forgetUnfinished()
    app.toLogin({ notice: CHALLENGE_OVER, username })
  }

  function tick(): void {
    const seconds = Math.ceil((challenge.expiresAtMs - Date.now()) / 1000)
    timeLeft.textContent = countdown(Math.max(0, seconds))
    // A call under way says itself what became of it.
    if (seconds <= 0 && heading.isConnected && answers.querySelector('[aria-busy]') === null) startOver()
  }

  const answers = form({
    action: 'verify',
    label: 'Verify',
    busyLabel: 'Checking…',
    before: trust === null ? [] : [trust.element],
    fields: [code],
    own: code.words,
    submit,
    refused,
    beside: [code.switcher],
  })
  tick()
  const ticking = setInterval(() => (heading.isConnected ? tick() : clearInterval(ticking)), 1000)

  return {
    name: 'challenge',
    title: 'Enter your code',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        heading,
        el('p', { class: 'hint' }, `Logging in as ${username}. Time left: `, timeLeft),
        answers,
        el(
          'p',
          { class: 'elsewhere links' },
          linkButton('go-recovery', 'Lost your phone?', app.toRecovery),
          linkButton('go-login', 'Use a different account', () => {
            forgetUnfinished()
            app.toLogin()
          }),
        ),
      ),
    ],
    focus: code.input,
  }
}

function usedOne(left: number): string {
  if (left === 0) return 'You used your last backup code. Generate new ones.'
  return `You used a backup code. You have ${count(left, 'backup code')} left.`
}
