// Passkeys, which browsers offer to scripts only. A form that asks for one is held back until the device has answered; the answer goes into
// its field "passkey". What it proves is judged by the server.
"use strict";
for (const form of document.querySelectorAll("form[data-passkey]")) {
	const status = form.querySelector("[role=status]");
	const button = form.querySelector("button[type=submit]");
	const say = (text) => { status.textContent = text; };
	if (!window.PublicKeyCredential) {
		say("This browser has no passkeys. Use another one.");
		continue;
	}
	const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
	const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
	const withIDs = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
	const options = () => {
		const o = JSON.parse(form.dataset.options);
		o.challenge = bytes(o.challenge);
		if (o.user) o.user.id = bytes(o.user.id);
		if (o.allowCredentials) o.allowCredentials = withIDs(o.allowCredentials);
		if (o.excludeCredentials) o.excludeCredentials = withIDs(o.excludeCredentials);
		return o;
	};
	const answer = (c) => {
		const r = c.response;
		const out = { id: c.id, rawId: text(c.rawId), type: c.type, clientExtensionResults: c.getClientExtensionResults(), response: { clientDataJSON: text(r.clientDataJSON) } };
		if (c.authenticatorAttachment) out.authenticatorAttachment = c.authenticatorAttachment;
		if (r.attestationObject) {
			out.response.attestationObject = text(r.attestationObject);
			if (r.getTransports) out.response.transports = r.getTransports();
		} else {
			out.response.authenticatorData = text(r.authenticatorData);
			out.response.signature = text(r.signature);
			if (r.userHandle) out.response.userHandle = text(r.userHandle);
		}
		return JSON.stringify(out);
	};
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		if (button.getAttribute("aria-busy") === "true") return;
		button.setAttribute("aria-busy", "true");
		say("Your device asks you now: touch it, or unlock it.");
		try {
			const ask = { publicKey: options() };
			const made = form.dataset.passkey === "create" ? await navigator.credentials.create(ask) : await navigator.credentials.get(ask);
			form.elements.passkey.value = answer(made);
			say("Your device has answered. One moment.");
			form.submit();
		} catch (error) {
			button.removeAttribute("aria-busy");
			say(error.name === "NotAllowedError" ? "It was cancelled, took too long, or no passkey of yours is here. Nothing was sent; try again." :
				error.name === "InvalidStateError" ? "This device holds a passkey of yours already. Nothing was sent." :
				"The browser refuses: " + error.message + " Nothing was sent.");
		}
	});
}
