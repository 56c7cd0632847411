const place = document.getElementById("swagger-ui");
SwaggerUIBundle({
  url: place.dataset.spec,
  domNode: place,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
