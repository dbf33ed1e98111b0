{% include "parts.js" %}


{% include "card.js" %}


{% include "show.js" %}
