import type { Me } from '../api.ts'
import type { Account } from '../app.ts'
import { confirmed, withStepUp } from '../dialogs.ts'
import { el } from '../dom.ts'
import { actionButton, errorRegion } from '../form.ts'

/** How long a second factor counts as fresh: the server's default. A wrong guess here only asks once more. */
const FRESH_FOR_SECONDS = 300

export function turnOffCard({ app, me }: Account): HTMLElement {
  const errors = errorRegion()
  const disable = actionButton({
    action: 'disable',
    label: 'Turn off',
    busyLabel: 'Turning off…',
    class: 'danger',
    errors,
    work: async () => {
      // Never on one click: where the server would not ask for a code, the page asks whether it is meant.
      const off = await (isFresh(me) ? disableAfterQuestion() : disableWithCode({ asksFirst: true }))
      if (off !== null) app.toAccount({ notice: 'Two-factor authentication is off. Your backup codes no longer work.' })
    },
  })

  async function disableAfterQuestion(): Promise<true | null> {
    const consequence = 'Your password alone will be enough to log in, and your backup codes stop working.'
    const sure = await confirmed('Turn off two-factor authentication?', consequence, 'confirm-disable', 'Turn off')
    return sure ? disableWithCode({ asksFirst: false }) : null
  }

  function disableWithCode(when: { asksFirst: boolean }): Promise<true | null> {
    const reason =
      'To turn off two-factor authentication, enter a code. Your password alone will be enough to log in then.'
    return withStepUp(reason, (code) => app.api.disable(code).then(() => true as const), when)
  }

  return el(
    'section',
    { class: 'card' },
    el('h2', {}, 'Turn off two-factor authentication'),
    el('p', {}, 'Your password alone will be enough to log in. The authenticator and all backup codes are removed.'),
    errors.element,
    el('div', { class: 'actions' }, disable),
  )
}

function isFresh({ amr, auth_time }: Me): boolean {
  const provedAtMs = typeof auth_time === 'number' ? auth_time * 1000 : Date.parse(auth_time)
  return amr.includes('mfa') && Date.now() - provedAtMs < FRESH_FOR_SECONDS * 1000
}
