"""
@article{Kimanius2024,
  title   = {Data-driven regularization lowers the size barrier of cryo-EM structure determination},
  author  = {Kimanius, Dari and Jamali, Kiarash and Wilkinson, Max E. and Lövestam, Sofia and Velazhahan, Vaithish and Nakane, Takanori and Scheres, Sjors H. W.},
  journal = {Nature Methods},
  volume  = {21},
  pages   = {1216--1221},
  year    = {2024},
  doi     = {10.1038/s41592-024-02304-8}
}
"""  # noqa: E501
