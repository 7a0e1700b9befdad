"""The standard policy, as `cognify init` writes it to `policy.yaml`."""

DEFAULT_POLICY_YAML = """\
# Which sign-offs a model version needs before it may be deployed. This file is input: a policy counts only once it stands
# in the ledger (at `cognify init`, or adopted later by signed entries). Check it with `cognify policy check`, read it in plain
# sentences with `cognify policy explain`. Lines that are commented out show an option with its default.
version: 1
title: Model release policy
tiers:
  low:
    stages: [automated]
    approval_days: 365
  medium:
    stages: [automated, compliance]
    approval_days: 365
    # What is live is reviewed this often; an overdue review is shown, or (block) suspends it and holds back releases.
    review_days: 365
    # overdue_review: show
    # change_plans: true           # whether a change plan may stand in for sign-offs
    # sign_off_days: 14            # a stage should be signed within so many days; late ones are reminded of, no more (no date)
  high:
    stages: [automated, validation, compliance, business]
    approval_days: 180
    review_days: 365
    overdue_review: block
    # Sections that people write and that may not be empty in this tier (`cognify section --help`).
    required_sections: [intended_use, out_of_scope, limitations, failure_modes]
    # blocking_frameworks: []      # frameworks whose open mandatory requirements stop the release run in Dagster, not only warn
stages:
  automated:
    kind: automated
    title: Automated gates
    gates: [performance, fairness, data_quality, completeness]
  validation:
    kind: sign_off
    title: Independent validation
    role: model_validator
    meaning: I validated this model version independently of its developers and found it fit for its intended use.
    # quorum: 1                    # how many people of the role
    # further_roles: {}            # people of other roles beside them, such as {auditor: 1}
    # min_strength: S3             # S2 single sign-on, S3 personal key, S4 passkey
  compliance:
    kind: sign_off
    title: Compliance and legal review
    role: compliance_officer
    meaning: I reviewed this package against the regulations it names and have no objection to the release.
  business:
    kind: sign_off
    title: Business sign-off
    role: business_owner
    meaning: I accept the use of this model version for its stated purpose and its remaining risks.
# Who had a hand in a version and so may not sign it off (dataset_approver: who attested or approved its data); gate_set_adopter may be added.
separation_of_duties:
  exclude: [run_launcher, commit_authors, package_builder, dataset_approver]
  distinct_people_across_stages: true
  # conflicts: []                  # groups that do not judge each other's work, such as [[person/ada, person/ben]]
# What happens when a launcher or commit author maps to no enrolled person: block or warn.
unattributed: block
# What is demanded of data before a model is trained or evaluated on it: a declared reason for every change of a dataset. An
# approval is given by people of a role who did not make the snapshot; fully_hashed takes no digest over from an earlier snapshot.
# `names` are patterns, `tiers` those of the models (all, unless named); all entries that fit apply together.
datasets:
  - {names: ["*"], reason: required}
#  - {names: ["loans_*"], tiers: [high], approval: {role: model_validator, quorum: 1, strength: S3}, fully_hashed: true}
# How many sign an enrolment, after how many days a role must be confirmed anew (none: never), how long a role may be delegated.
# people:
#   vouchers: 2
#   recertify_days: null
#   max_delegation_days: 30
# What a deployment target demands: targets that the version was live on before, such as {production: {after: [canary], min_hours: 24}}.
# targets: {}
# Which open findings hold a release back, who raises and closes them, who may accept their risk and for how long.
# findings:
#   blocking: [high, critical]
#   open_roles: [model_validator, compliance_officer, auditor, business_owner]
#   close_roles: [model_validator, compliance_officer]
#   accept_roles: [compliance_officer, business_owner]
#   max_acceptance_days: 180
# Emergency releases without some sign-offs; gates, blocks and findings are never waived.
# break_glass:
#   enabled: false
#   roles: [business_owner, compliance_officer]
#   extra_role: compliance_officer # at least one of the signers
#   quorum: 2
#   max_hours: 72
# Events after which approvals count no more (also: data_change, policy_change), and what a block does to a model that is live.
# voids: [base_model_change, drift_breach, incident, framework_change]
# blocked_live: suspend            # or report
# Who signs a model's tier, orders a rollback, reviews what is live; the tier of a model nobody classified (empty: the strictest).
# classifiers: [compliance_officer, model_validator, business_owner]
# rollback_roles: [ml_engineer, business_owner, compliance_officer]
# review_roles: [model_validator]
# unclassified_tier: ""
# Attestations without which no release happens (`cognify attest --help`). This one asks for a business associate agreement with
# each vendor that the fact serving_vendor of a model names, where the model is under the framework hipaa and goes to production.
# required_attestations:
#   - {text_id: baa, about: model, roles: [compliance_officer], targets: [production], frameworks: [hipaa], party_fact: serving_vendor}
"""
