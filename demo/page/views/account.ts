import type { Account, App, View } from '../app.ts'
import { backupCodesCard } from '../cards/backup-codes.ts'
import { secondFactorOffCard, secondFactorOnCard } from '../cards/second-factor.ts'
import { trustedDevicesCard } from '../cards/trusted-devices.ts'
import { closedVaultCard, vaultCard } from '../cards/vault.ts'
import { logOutButton, whoCard } from '../cards/who.ts'
import { el } from '../dom.ts'
import { errorRegion } from '../form.ts'

export function accountView(app: App): View {
  const heading = el('h1', { tabindex: '-1' }, 'Your account')
  const body = el('div', { class: 'stack' })

  async function load(): Promise<void> {
    body.replaceChildren(el('p', { class: 'card', role: 'status' }, 'Loading…'))
    try {
      const [me, status] = await Promise.all([app.api.me(), app.api.status()])
      const { trusted_devices: trustedDevices } =
        status.trusted_devices === 0 ? { trusted_devices: [] } : await app.api.trustedDevices()
      body.replaceChildren(...cards({ app, me, status, trustedDevices }))
    } catch (error) {
      const errors = errorRegion()
      const again = el(
        'button',
        { type: 'button', class: 'primary', 'data-action': 'reload', onclick: load },
        'Try again',
      )
      const actions = el('div', { class: 'actions' }, again, logOutButton(app))
      body.replaceChildren(el('section', { class: 'card' }, errors.element, actions))
      errors.explain(error)
    }
  }

  load()
  return { name: 'account', title: 'Your account', content: [heading, body], focus: heading }
}

function cards(account: Account): HTMLElement[] {
  const who = whoCard(account)
  const trustedDays = account.status.policy.trusted_device_days
  if (!account.status.is_totp_enabled) return [who.element, secondFactorOffCard(account), closedVaultCard(account)]
  return [
    who.element,
    secondFactorOnCard(account),
    backupCodesCard(account),
    ...(trustedDays === null ? [] : [trustedDevicesCard(account, trustedDays)]),
    vaultCard(account, who.update),
  ]
}
