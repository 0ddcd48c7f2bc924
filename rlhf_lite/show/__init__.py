"""Show everything: figures, cards, explorers, the labelling desk and the live panel.

The face of the wing, which notebooks import; the parts behind it import downward: style, cards,
figures, explorers, desk, panel.
"""

from rlhf_lite.show.cards import (
    AS_DRAWN,
    claims_html,
    document_html,
    documents_html,
    error_html,
    figure_png,
    predictions_html,
)
from rlhf_lite.show.desk import labelling_desk, pair_html
from rlhf_lite.show.explorers import (
    explore_parrot,
    explore_push,
    explore_runs,
    explore_score,
    parrot_view,
    plot_parrot,
    score_view,
)
from rlhf_lite.show.figures import (
    DIVERSITY,
    KIND_LOOKS,
    plot_agreement,
    plot_bands,
    plot_bits,
    plot_dashboard,
    plot_frontier,
    plot_loss,
    plot_matrix,
    plot_next_tokens,
    plot_points,
    plot_posterior,
    plot_push,
    plot_recall,
    plot_reliability,
    plot_rewards,
    plot_run,
    plot_score_by_voice,
    plot_shares,
    plot_temperatures,
    plot_tilt,
    plot_trace,
    plot_voice_areas,
)
from rlhf_lite.show.panel import KLPanel, plot_panel
from rlhf_lite.show.style import (
    GREEN,
    INK,
    KL,
    POLICY,
    REFERENCE,
    REWARD,
    WARNING,
    use_style,
)
