"""dm-dt histograms, references and scores."""
