const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.spec,
  domNode: place,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  // A page has one main landmark, and ours is around this.
  onComplete: () => place.querySelector("main")?.setAttribute("role", "presentation"),
});
