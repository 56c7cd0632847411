// Previews of results: each is fetched when it is open and comes near; without this, it is a link.

const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && target.open) { near.unobserve(target); fetchLook(target); }
  }
}, { rootMargin: "300px" });

async function fetchLook(details) {
  const answer = await ask(`${details.dataset.look}?part`);
  if (!answer?.ok) return;
  const page = document.createElement("template");
  page.innerHTML = answer.text; // escaped by the gateway's templates, as all its pages are
  details.querySelector(":scope > :not(summary)").replaceWith(page.content);
}

const watched = new WeakSet();
function watch() {
  for (const details of document.querySelectorAll("details[data-look]")) {
    if (watched.has(details)) continue;
    watched.add(details);
    near.observe(details);
    // Opened by hand: it is looked at anew whether it is near.
    details.addEventListener("toggle", () => { if (details.open && !details.querySelector(".look-body")) { near.unobserve(details); near.observe(details); } });
  }
}

watch();
// The results come into the page when the run ends.
new MutationObserver(watch).observe(document.getElementById("main"), { childList: true, subtree: true });
