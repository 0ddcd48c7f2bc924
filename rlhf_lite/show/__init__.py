"""Show everything: figures, cards, explorers, the labelling desk and the live panel.

The face of the wing, which notebooks import; the parts behind it import downward: alt, style,
cards, view, controls, figures_base, figures_feedback, figures_rewards, figures_policies,
figures_diversity, explorers, harmless, desk, classboard, blind, truth, attacks, bias, budget, law,
less, panel.
"""

from rlhf_lite.show.alt import alt_text
from rlhf_lite.show.attacks import (
    attack_view,
    curve_view,
    explore_attack,
    explore_curve,
    lines_needed,
    plot_curve,
    plot_leaks,
    plot_search,
    plot_tokens,
)
from rlhf_lite.show.bias import dialled, dials_view, explore_dials, plot_odds, plot_trades
from rlhf_lite.show.blind import (
    BlindTest,
    blind_test,
    plot_preference,
    plot_seeds,
    plot_win_rates,
)
from rlhf_lite.show.budget import (
    budget_view,
    explore_budget,
    plans,
    plot_budget,
    plot_memory,
    plot_seconds,
)
from rlhf_lite.show.cards import (
    AS_DRAWN,
    claims_html,
    document_html,
    documents_html,
    error_html,
    figure_png,
    predictions_html,
)
from rlhf_lite.show.classboard import Board, class_board, plot_class
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
from rlhf_lite.show.figures_base import (
    plot_agreement,
    plot_loss,
    plot_next_tokens,
    plot_posterior,
    plot_recall,
    plot_shares,
    plot_temperatures,
    plot_tilt,
)
from rlhf_lite.show.figures_diversity import (
    DIVERSITY,
    plot_excess,
    plot_run,
    plot_voice_areas,
    plot_voice_lines,
)
from rlhf_lite.show.figures_feedback import KIND_LOOKS, plot_bits, plot_matrix, plot_points
from rlhf_lite.show.figures_policies import plot_dashboard, plot_frontier, plot_push, plot_rewards
from rlhf_lite.show.figures_rewards import (
    plot_bands,
    plot_reliability,
    plot_score_by_voice,
    plot_trace,
)
from rlhf_lite.show.harmless import (
    explore_weight,
    plane_of,
    plot_multiplier,
    plot_plane,
    weights_of,
)
from rlhf_lite.show.law import (
    expected_share,
    explore_law,
    law_view,
    plot_law,
    plot_where,
    responses_for,
)
from rlhf_lite.show.less import (
    cost_of,
    counts_of,
    explore_price,
    plot_counts,
    plot_forms,
    plot_labellers,
    plot_price,
    price_view,
    seeds_line,
)
from rlhf_lite.show.panel import KLPanel, plot_panel
from rlhf_lite.show.style import (
    GREEN,
    INK,
    KL,
    POLICY,
    REFERENCE,
    REWARD,
    SKY,
    WARNING,
    contrast,
    ink_of,
    ink_on,
    use_style,
)
from rlhf_lite.show.truth import (
    checked_view,
    explore_checked,
    plot_phase,
    plot_trust,
    support_html,
)
from rlhf_lite.show.view import View, spoken
