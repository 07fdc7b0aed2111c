// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsNote is Planted {
    function test_note__takes_the_bounty_once() public {
        _note();
        assertEq(plants.ledger(), BOUNTY);
        assertEq(token.balanceOf(address(plants)), BOUNTY);
        vm.expectRevert(abi.encodeWithSelector(IPlants.AlreadyNoted.selector, plantHash));
        plants.note(plantHash);
    }

    function test_note__by_another__reverts() public {
        vm.prank(owner);
        vm.expectRevert();
        plants.note("hash");
    }

    function test_terms__without_bounty_fine_or_window__revert() public {
        Plants.Wiring memory w = Plants.Wiring(token, staking, commitments, verifiers, pins, disputes);
        IPlants.Terms[3] memory bad = [IPlants.Terms(0, 1, 1, 1, 0), IPlants.Terms(1, 0, 1, 1, 0), IPlants.Terms(1, 1, 0, 1, 0)];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(IPlants.BadTerms.selector);
            new Plants(address(access), w, bad[i]);
        }
        assertEq(plants.terms().fine, FINE);
    }
}
