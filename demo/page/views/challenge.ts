import type { App, View } from '../app.ts'
import { codeField } from '../code-field.ts'
import { el, linkButton } from '../dom.ts'
import { form } from '../form.ts'
import { Refusal } from '../refusal.ts'
import { trustChoice } from '../trust-choice.ts'
import { CHALLENGE_OVER } from '../wording.ts'

/** The second step of a log-in. The challenge token lives in this view only: a reload starts over. */
export function challengeView(app: App, { token, username }: { token: string; username: string }): View {
  const code = codeField()
  const trust = trustChoice()

  async function submit(): Promise<void> {
    try {
      const deviceName = trust.trustedName()
      const trusted = deviceName === null ? null : { username, deviceName }
      const codesLeft = await app.api.verify(token, code.kind(), code.code(), trusted)
      app.toAccount(codesLeft === null ? {} : { notice: usedOne(codesLeft) })
    } catch (error) {
      if (!(error instanceof Refusal && error.code === 'challenge_invalid')) throw error
      app.toLogin({ notice: CHALLENGE_OVER, username })
    }
  }

  return {
    name: 'challenge',
    title: 'Enter your code',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Enter your code'),
        el('p', {}, `The password of ${username} is right. One more step shows that it is you.`),
        form({
          action: 'verify',
          label: 'Verify',
          busyLabel: 'Checking…',
          fields: [code],
          further: [trust.element],
          own: code.words,
          submit,
          beside: [code.switcher],
        }),
        el(
          'p',
          { class: 'elsewhere links' },
          linkButton('go-recovery', 'Lost your phone?', app.toRecovery),
          linkButton('go-login', 'Log in as somebody else', () => app.toLogin()),
        ),
      ),
    ],
    focus: code.input,
  }
}

function usedOne(left: number): string {
  if (left === 0) return 'You used your last backup code. Make new ones now.'
  const rest = left === 1 ? 'One is left' : `${left} are left`
  return `You used a backup code; it does not work again. ${rest}.`
}
